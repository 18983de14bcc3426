"""What may be done with a transactional producer, whichever library it is of."""

from enum import Enum, auto


class State(Enum):
    """What comes next for the producer.

    FIT      another transaction
    SPENT    its transaction is aborted; a message that failed leaves a gap in its numbering, so the next needs another
    UNKNOWN  nothing, until `recover`
    """

    FIT = auto()
    SPENT = auto()
    UNKNOWN = auto()
