"""Settings as kafka-python's consumer, producer and admin client take them."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from streamer.adapters.kafka_python.assignor import ClaimingAssignor
from streamer.errors import ConfigError
from streamer.kafka.spelling import as_kafka_python
from streamer.settings import KafkaSettings, OutputSettings

Options = dict[str, Any]

TRANSACTION_TIMEOUT_SECONDS = 10.0  # past it the coordinator aborts; then 30 s of a session, then the poll interval
SEND_TIMEOUT_SECONDS = 45.0  # beyond every limit of ours: a send given up by the library would leave a gap
MAX_REQUEST_BYTES = 64 * 2**20  # how large a record may be is for its topic to say; brokers end a connection at 100 MB
BATCH_BYTES = 256 * 2**10  # the default of 16 KB is a dozen forecasts
FETCH_WAIT_MS = 20  # of the log reader: at a log's end a fetch waits at the broker, and the next partition behind it
FETCH_BYTES = 2 * 2**20  # of the log reader: tried, 1 to 8 MB; small records gain, and large ones lose from 4 on

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
        "delivery_timeout_ms": int(SEND_TIMEOUT_SECONDS * 1000),
        "max_block_ms": 5_000,
        "metrics_enabled": False,
    },
}
FIXED: Mapping[Any, Options] = {
    KafkaAdminClient: {},
    KafkaConsumer: {
        "allow_auto_create_topics": False,
        "auto_offset_reset": "earliest",  # only where retention has overtaken us: read what is left
        "enable_auto_commit": False,
        "isolation_level": "read_committed",  # the committed positions are then the stable ones, too
        "partition_assignment_strategy": [ClaimingAssignor],
    },
    KafkaProducer: {
        "acks": "all",
        "allow_auto_create_topics": False,
        "batch_size": BATCH_BYTES,
        "enable_idempotence": True,
        "linger_ms": 0,  # a transaction would wait for it, and be over before a batch is sent
        "max_request_size": MAX_REQUEST_BYTES,
    },
}
# The first request of a transaction is often told to come back, as the one before is still being completed.
TRANSACTIONS: Options = {"retry_backoff_ms": 10, "transaction_timeout_ms": int(TRANSACTION_TIMEOUT_SECONDS * 1000)}
FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
INSTEAD = {"auto_offset_reset": "input.start", "compression_type": "output.compression"}
OWN = {name for options in FIXED.values() for name in options} | {
    *INSTEAD,
    "transactional_id",
    "transaction_timeout_ms",
    "key_serializer",
    "value_serializer",
    "key_deserializer",
    "value_deserializer",
    "partitioner",
}


def admin_options(kafka: KafkaSettings, limit_seconds: float | None = None) -> Options:
    """For KafkaAdminClient; ConfigError for an option that no client takes.

    limit_seconds  for reaching a broker, and for each answer, other than `kafka.connect_timeout_seconds`
    """
    options = _options(KafkaAdminClient, kafka)
    if limit_seconds is not None:
        options |= dict.fromkeys(("bootstrap_timeout_ms", "request_timeout_ms"), int(limit_seconds * 1000))
    return options


def consumer_options(kafka: KafkaSettings) -> Options:
    """For KafkaConsumer, a member of the group."""
    own = {"group_id": kafka.group_id, "group_instance_id": kafka.group_instance_id or None}
    return _options(KafkaConsumer, kafka) | own


def reader_options(kafka: KafkaSettings, isolation_level: str) -> Options:
    """For KafkaConsumer outside the group."""
    own = {
        "group_id": None,
        "isolation_level": isolation_level,
        "max_partition_fetch_bytes": FETCH_BYTES,
        "fetch_max_wait_ms": FETCH_WAIT_MS,
    }
    del (options := _options(KafkaConsumer, kafka))["partition_assignment_strategy"]
    return options | own


def producer_options(kafka: KafkaSettings, output: OutputSettings) -> Options:
    """For KafkaProducer."""
    own = {"compression_type": None if output.compression == "none" else output.compression}
    return _options(KafkaProducer, kafka) | own


def transaction_options(
    kafka: KafkaSettings, output: OutputSettings, transactional_id: str, batch_bytes: int, connect_seconds: float | None
) -> Options:
    """For TransactionalProducer.

    batch_bytes      the largest batch that every topic it writes to takes
    connect_seconds  other than `kafka.connect_timeout_seconds`
    """
    options = producer_options(kafka, output) | TRANSACTIONS | {"transactional_id": transactional_id}
    options["batch_size"] = min(options["batch_size"], batch_bytes)
    if connect_seconds is not None:
        options["bootstrap_timeout_ms"] = int(connect_seconds * 1000)
    return options


def check_options(kafka: KafkaSettings) -> None:
    """ConfigError for an option that no client takes, or that would break what the daemon promises."""
    known = {name: default for client in DEFAULTS for name, default in client.DEFAULT_CONFIG.items()}
    for name, value in _given(kafka).items():
        if name in OWN:
            instead = f"; set {INSTEAD[name]} instead" if name in INSTEAD else "; remove it"
            raise ConfigError(f"kafka.options.{name}: the daemon sets this itself{instead}")
        if name not in known:
            spelt = name.replace(".", "_").replace("-", "_")
            hint = f"; it spells it {spelt}" if spelt in known else "; see its documentation for the names"
            raise ConfigError(f"kafka.options.{name}: kafka-python has no such option{hint}")
        if (expected := _kind(known[name])) and _kind(value) != expected:
            raise ConfigError(f"kafka.options.{name}: expected {expected}, found {_kind(value)}")
        if name in FILES and not Path(str(value)).is_file():  # the library would say so in a traceback
            raise ConfigError(f"kafka.options.{name}: found ***, which is not a file here; name a PEM file")


def quiet_library() -> None:
    """Keep kafka-python's own log lines back, unless the operator set a level for them.

    It writes several lines a second while a broker is away, and its configuration, secrets too, when debugging.
    """
    library = logging.getLogger("kafka")
    if library.level == logging.NOTSET:
        library.setLevel(logging.CRITICAL)


def _kind(value: object) -> str:
    kinds = {bool: "true or false", int: "a number", float: "a number", str: "text"}
    return kinds.get(type(value), "")


def _given(kafka: KafkaSettings) -> Mapping[str, str | int | float | bool]:
    """The operator's options; of those written for librdkafka, what this library has too."""
    options = kafka.client_options()
    return options if kafka.client == "kafka-python" else as_kafka_python(options)


def _options(client: Any, kafka: KafkaSettings) -> Options:
    check_options(kafka)
    given = {name: value for name, value in _given(kafka).items() if name in client.DEFAULT_CONFIG}
    servers = {"bootstrap_servers": [server.strip() for server in kafka.bootstrap_servers.split(",")]}
    patience = {"bootstrap_timeout_ms": int(kafka.connect_timeout_seconds * 1000)}
    return DEFAULTS[client] | patience | given | FIXED[client] | servers
