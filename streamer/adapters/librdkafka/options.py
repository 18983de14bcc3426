"""Settings as librdkafka's consumer and producer take them."""

from collections.abc import Callable
from typing import Any

from streamer.adapters.librdkafka.log_lines import LogLines
from streamer.errors import ConfigError
from streamer.kafka.spelling import as_librdkafka
from streamer.settings import KafkaSettings, OutputSettings

Options = dict[str, Any]

TRANSACTION_TIMEOUT_SECONDS = 10.0  # past it the coordinator aborts; then 30 s of a session, then the poll interval
MAX_MESSAGE_BYTES = 64 * 2**20  # how large a record may be is for its topic to say; brokers end a connection at 100 MB
# One batch of a partition is on its way at a time: with small ones a transaction would not be over in its time.
BATCH_BYTES = 1_000_000  # at most; a topic may take less
BATCH_MESSAGES = 10_000  # at most
QUEUED_KBYTES = 32 * 1024  # read ahead by the consumer, in all
READER_QUEUED_KBYTES = 16 * 1024
READER_WAIT_MS = 20  # a broker holds back its answer about an old partition, and the question about the next, so long
SEND_KBYTES = 2 * 2**20  # never in the way: what waits is bounded by the transaction, and by `output.DRAIN_BYTES`
SEND_MESSAGES = 10_000_000

COMMON: Options = {
    "reconnect.backoff.max.ms": 1_000,  # be back a second after the broker, not ten
    "allow.auto.create.topics": False,
    "log_level": 0,  # only what ends a client; the next levels have several lines a second while a broker is away
    "log.connection.close": False,
}
CONSUMER: Options = {
    "session.timeout.ms": 30_000,
    "max.poll.interval.ms": 60_000,
    "queued.max.messages.kbytes": QUEUED_KBYTES,
    "fetch.wait.max.ms": 100,  # what else is asked of an idle broker stands behind the fetch, half a second by default
    "fetch.queue.backoff.ms": 5,  # a full queue is emptied in less than the second that is the default
    "topic.metadata.refresh.interval.ms": 10_000,
}
PRODUCER: Options = {
    "delivery.timeout.ms": int(TRANSACTION_TIMEOUT_SECONDS * 1000),
    "queue.buffering.max.kbytes": SEND_KBYTES,
    "queue.buffering.max.messages": SEND_MESSAGES,
}
FIXED_CONSUMER: Options = {
    "auto.offset.reset": "earliest",  # only where retention has overtaken us: read what is left
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # how far a partition is read, aborted records and markers included
    "isolation.level": "read_committed",  # the committed positions are then the stable ones, too
    "partition.assignment.strategy": "cooperative-sticky",
}
FIXED_PRODUCER: Options = {
    "acks": "all",
    "batch.num.messages": BATCH_MESSAGES,
    "delivery.report.only.error": True,
    "enable.idempotence": True,
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "transaction.timeout.ms": int(TRANSACTION_TIMEOUT_SECONDS * 1000),
}
INSTEAD = {
    "auto.offset.reset": "input.start",
    "compression.codec": "output.compression",
    "compression.type": "output.compression",
}
OWN = {
    *FIXED_CONSUMER,
    *FIXED_PRODUCER,
    *INSTEAD,
    "allow.auto.create.topics",
    "batch.size",
    "delivery.timeout.ms",
    "enable.gapless.guarantee",
    "group.protocol",
    "group.remote.assignor",
    "linger.ms",
    "logger",
    "message.timeout.ms",
    "metadata.broker.list",
    "partitioner",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queue.buffering.max.ms",
    "request.required.acks",
    "transactional.id",
}


def consumer_options(kafka: KafkaSettings, on_error: Callable[[Any], None]) -> Options:
    """For a member of the group."""
    own: Options = {"group.id": kafka.group_id, "error_cb": on_error, "logger": LogLines(kafka)}
    if kafka.group_instance_id:
        own["group.instance.id"] = kafka.group_instance_id
    return COMMON | CONSUMER | _given(kafka) | FIXED_CONSUMER | own


def reader_options(kafka: KafkaSettings, isolation_level: str) -> Options:
    """For a consumer that never joins the group; it bears its name, since the library asks for one."""
    own: Options = {
        "group.id": kafka.group_id or "tidecast",
        "isolation.level": isolation_level,
        "queued.max.messages.kbytes": READER_QUEUED_KBYTES,
        "fetch.wait.max.ms": READER_WAIT_MS,
        "error_cb": _ignored,
        "logger": LogLines(kafka),
    }
    return COMMON | CONSUMER | _given(kafka) | FIXED_CONSUMER | own


def producer_options(
    kafka: KafkaSettings,
    output: OutputSettings,
    transactional_id: str,
    batch_bytes: int,
    callbacks: Options,
) -> Options:
    """For a transactional producer.

    batch_bytes  that a batch may have: at most `BATCH_BYTES`, and what every topic it writes to takes
    callbacks    `error_cb` and `on_delivery`
    """
    own: Options = {"transactional.id": transactional_id, "compression.type": output.compression, **callbacks}
    own["logger"] = LogLines(kafka)
    own["batch.size"] = batch_bytes
    return COMMON | PRODUCER | _given(kafka) | FIXED_PRODUCER | own


def _given(kafka: KafkaSettings) -> Options:
    """What the operator set. Raises ConfigError for an option that would break what the daemon promises."""
    options = as_librdkafka(kafka.client_options())
    for name in options.keys() & OWN:
        instead = f"; set {INSTEAD[name]} instead" if name in INSTEAD else "; remove it"
        raise ConfigError(f"kafka.options.{name}: the daemon sets this itself{instead}")
    servers = ",".join(server.strip() for server in kafka.bootstrap_servers.split(","))
    return {"bootstrap.servers": servers, **options}


def _ignored(_error: object) -> None:
    """Errors that the calls themselves report."""
