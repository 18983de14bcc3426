"""Refusals of Kafka as an operator reads them, whichever client met them."""

from collections.abc import Iterable

from streamer.core.events import Partition
from streamer.delivery import DeliveryError, FencedError
from streamer.settings import KafkaSettings

PERMISSIONS = "check the permissions of this user on the topics, the group and the transactional id"
TOO_LARGE = "raise max.message.bytes of its topic"
PARTITIONS = "check the partitions of its topic"


def without_secrets(message: object, kafka: KafkaSettings) -> str:
    """A library's message with the values of `kafka.options` blotted out."""
    text = str(message)
    for name, value in kafka.client_options().items():
        if isinstance(value, str) and value and name != "debug":  # whose value is words of the messages it asks for
            text = text.replace(value, "***")
    return text


def name_taken(kafka: KafkaSettings) -> FencedError:
    """Another process has our name in the group."""
    return FencedError(
        f"kafka.group_instance_id: another process of group {kafka.group_id!r} has taken the name "
        f"{kafka.group_instance_id!r}; give each process its own"
    )


def place_taken(transactional_id: str, kind: str) -> FencedError:
    """Another process has our transactional id; `kind` is the error that says so."""
    return FencedError(
        f"kafka.group_instance_id: another process has taken the place of {transactional_id!r} "
        f"({kind}); give each process its own name, and run each once"
    )


def refused(kafka: KafkaSettings, what: str, told: str) -> DeliveryError:
    """The brokers say no, and will again."""
    return DeliveryError(
        f"{what} was refused: {told}; check the group {kafka.group_id!r}, its other members' assignors, and the "
        "permissions of this user on group and topics"
    )


def transaction_refused(transactional_id: str, told: str, remedy: str) -> DeliveryError:
    """A transaction that no repetition mends."""
    return DeliveryError(
        f"a transaction of {transactional_id!r} was refused: {told}; {remedy}; "
        "nothing of it is visible, and a restart reads the same events again"
    )


def names(partitions: Iterable[Partition]) -> str:
    """Partitions for a log line."""
    return ",".join(f"{topic}-{number}" for topic, number in sorted(partitions))
