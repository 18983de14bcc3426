"""Settings as kafka-python's consumer, producer and admin client take them."""

import logging
from collections.abc import Mapping
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from streamer.errors import ConfigError
from streamer.settings import KafkaSettings, OutputSettings

Options = dict[str, Any]

DELIVERY_TIMEOUT_SECONDS = 45.0  # and 10 s for the offsets: below the poll interval, past which we leave the group
MAX_REQUEST_BYTES = 64 * 2**20  # how large a record may be is for its topic to say; brokers end a connection at 100 MB

DEFAULTS: Mapping[Any, Options] = {
    KafkaAdminClient: {"request_timeout_ms": 15_000},
    KafkaConsumer: {
        "request_timeout_ms": 15_000,
        "reconnect_backoff_max_ms": 1_000,  # be back a second after the broker, not half a minute
        "session_timeout_ms": 30_000,
        "max_poll_interval_ms": 60_000,
        "metrics_enabled": False,  # its own, which nothing reads
    },
    KafkaProducer: {
        "request_timeout_ms": 15_000,
        "reconnect_backoff_max_ms": 1_000,
        "delivery_timeout_ms": int(DELIVERY_TIMEOUT_SECONDS * 1000),
        "max_block_ms": 15_000,
        "batch_size": 256 * 1024,  # the default of 16 KB is a dozen forecasts
        "metrics_enabled": False,
    },
}
FIXED: Mapping[Any, Options] = {
    KafkaAdminClient: {},
    KafkaConsumer: {
        "auto_offset_reset": "earliest",  # only where retention has overtaken us: read what is left
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
        "partition_assignment_strategy": [CooperativeStickyAssignor],
    },
    # Without idempotence: with it, one record refused as too large is fatal to a producer without transactions.
    # One request at a time then keeps the order.
    KafkaProducer: {
        "acks": "all",
        "enable_idempotence": False,
        "max_in_flight_requests_per_connection": 1,
        "max_request_size": MAX_REQUEST_BYTES,
    },
}
INSTEAD = {"auto_offset_reset": "input.start", "compression_type": "output.compression"}
OWN = {name for options in FIXED.values() for name in options} | {
    *INSTEAD,
    "transactional_id",
    "allow_auto_create_topics",
    "key_serializer",
    "value_serializer",
    "key_deserializer",
    "value_deserializer",
    "partitioner",
}


def admin_options(kafka: KafkaSettings) -> Options:
    """For KafkaAdminClient; ConfigError for an option that no client takes."""
    return _options(KafkaAdminClient, kafka)


def consumer_options(kafka: KafkaSettings) -> Options:
    """For KafkaConsumer, a member of the group."""
    own = {"group_id": kafka.group_id, "group_instance_id": kafka.group_instance_id or None}
    return _options(KafkaConsumer, kafka) | own


def producer_options(kafka: KafkaSettings, output: OutputSettings) -> Options:
    """For KafkaProducer."""
    own = {"compression_type": None if output.compression == "none" else output.compression}
    return _options(KafkaProducer, kafka) | own


def check_options(kafka: KafkaSettings) -> None:
    """ConfigError for an option that no client takes, or that would break what the daemon promises."""
    known = {name: default for client in DEFAULTS for name, default in client.DEFAULT_CONFIG.items()}
    for name, value in kafka.client_options().items():
        if name in OWN:
            instead = f"; set {INSTEAD[name]} instead" if name in INSTEAD else "; remove it"
            raise ConfigError(f"kafka.options.{name}: the daemon sets this itself{instead}")
        if name not in known:
            spelt = name.replace(".", "_").replace("-", "_")
            hint = f"; it spells it {spelt}" if spelt in known else "; see its documentation for the names"
            raise ConfigError(f"kafka.options.{name}: kafka-python has no such option{hint}")
        if (expected := _kind(known[name])) and _kind(value) != expected:
            raise ConfigError(f"kafka.options.{name}: expected {expected}, found {_kind(value)}")


def quiet_library() -> None:
    """Keep kafka-python's own log lines back, unless the operator set a level for them.

    It writes several lines a second while a broker is away, and its configuration, secrets too, when debugging.
    """
    library = logging.getLogger("kafka")
    if library.level == logging.NOTSET:
        library.setLevel(logging.CRITICAL)


def without_secrets(message: object, kafka: KafkaSettings) -> str:
    """A library's message with the values of `kafka.options` blotted out."""
    text = str(message)
    for value in kafka.client_options().values():
        if isinstance(value, str) and value:
            text = text.replace(value, "***")
    return text


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "")


def _options(client: Any, kafka: KafkaSettings) -> Options:
    check_options(kafka)
    given = {name: value for name, value in kafka.client_options().items() if name in client.DEFAULT_CONFIG}
    servers = {"bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")]}
    patience = {"bootstrap_timeout_ms": int(kafka.connect_timeout_seconds * 1000)}
    return DEFAULTS[client] | patience | given | FIXED[client] | servers
