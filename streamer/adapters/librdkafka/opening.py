"""librdkafka's clients opened, or refused with the option to mend."""

import re
from typing import Any

from confluent_kafka import KafkaException

from streamer.adapters.librdkafka.failures import error_of
from streamer.errors import ConfigError
from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings

UNKNOWN = re.compile(r'No such configuration property: "(.*)"')
PROPERTY = re.compile(r'property "(.*?)"')


def open_client(kind: Any, kafka: KafkaSettings, options: dict[str, Any]) -> Any:
    """A consumer or producer; it connects by itself later. Raises ConfigError for options that it does not take."""
    try:
        return kind(options)
    except KafkaException as problem:
        told = without_secrets(error_of(problem).str().strip(), kafka)
    except (TypeError, ValueError) as error:
        told = without_secrets(error, kafka)
    if unknown := UNKNOWN.search(told):
        raise ConfigError(
            f"kafka.options.{unknown[1]}: librdkafka has no such option; see its CONFIGURATION.md for the names"
        )
    name = f".{found[1]}" if (found := PROPERTY.search(told)) else ""
    raise ConfigError(f"kafka.options{name}: {told}")
