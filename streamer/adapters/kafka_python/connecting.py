"""kafka-python's clients opened, or refused with the setting to mend and nothing left running."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient
from kafka.errors import KafkaConfigurationError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient

from streamer.adapters.kafka_python.options import admin_options
from streamer.errors import ConfigError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings


def open_client(kind: Any, kafka: KafkaSettings, options: Mapping[str, Any]) -> Any:
    """A client of this kind that has reached a broker.

    Raises ConfigError, naming `kafka.bootstrap_servers` or `kafka.options`, where none comes about.
    """
    started: list[KafkaNetClient] = []

    def network(**configuration: Any) -> KafkaNetClient:
        started.append(KafkaNetClient(**configuration))
        return started[-1]

    try:
        with refusals(kafka):
            return kind(kafka_client=network, **options)
    except ConfigError:
        for client in started:
            client.close()  # a client that cannot be made leaves its network thread running
        raise


@contextmanager
def admin_client(kafka: KafkaSettings, limit_seconds: float | None = None) -> Iterator[Any]:
    """An admin client that has reached a broker; ConfigError if there is none, or if it refuses what is asked.

    limit_seconds  for reaching one, and for each answer, other than `kafka.connect_timeout_seconds`
    """
    with open_client(KafkaAdminClient, kafka, admin_options(kafka, limit_seconds)) as admin, refusals(kafka):
        yield admin


@contextmanager
def refusals(kafka: KafkaSettings) -> Iterator[None]:
    """Turn the library's errors into ConfigError: before the first event, settings are what can be mended."""
    try:
        yield
    except KafkaTimeoutError:
        raise ConfigError(
            f"kafka.bootstrap_servers: no broker answered at {kafka.bootstrap_servers!r} within "
            f"{kafka.connect_timeout_seconds:g} s; start one there, or name the address of one that runs "
            "(with TLS or SASL, check kafka.options too)"
        ) from None
    except (KafkaConfigurationError, ValueError, TypeError) as error:
        raise ConfigError(f"kafka.options: {without_secrets(error, kafka)}") from None
    except KafkaError as error:
        raise ConfigError(
            f"kafka.bootstrap_servers: {kafka.bootstrap_servers!r} answered {without_secrets(error, kafka)}; "
            "check kafka.options (TLS, SASL) and the permissions of its user"
        ) from None
