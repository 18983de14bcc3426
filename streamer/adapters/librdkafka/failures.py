"""The library's errors, by what they mean to us.

An error of a transaction carries three flags of the library's own (retriable, abort required, fatal); its code tells
who is to blame.
"""

from typing import Any

from confluent_kafka import KafkaError, KafkaException

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
NOT_ALLOWED = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
NO_PARTITION = frozenset(
    {KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}
)  # fmt: skip
LASTING = frozenset(
    {
        *TOO_LARGE,
        *NOT_ALLOWED,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.OFFSET_METADATA_TOO_LARGE,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError._INVALID_ARG,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)
REFUSED_EPOCH = frozenset({KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED})
REBALANCING = frozenset(
    {KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS}
)  # fmt: skip
REFUSALS = frozenset(
    {
        *NOT_ALLOWED,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.GROUP_MAX_SIZE_REACHED,
        KafkaError._AUTHENTICATION,
        KafkaError._FATAL,
    }
)  # what a group or a topic says to a consumer, and will say again


def error_of(problem: KafkaException) -> Any:
    """The KafkaError inside."""
    return problem.args[0]


def told(error: Any) -> str:
    """Name and text of an error."""
    return f"{error.name()}: {error.str()}"
