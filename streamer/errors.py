"""The error tree, and what the daemon does with each.

    StreamerError
    ├── ConfigError      a wrong setting                exit 2 before the first event
    ├── ContractError    the model breaks the contract  exit 2 before the first event
    ├── EventError       one bad event                  count it, dead-letter it, go on
    ├── StateError       changelog unusable             stop; never forecast from lost state
    └── DeliveryError    Kafka takes nothing any more   exit 1; a successor begins at the last commit (in `delivery`)

A message names the subject, what was expected, what was found, and what to do.
"""


class StreamerError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(StreamerError):
    """A setting cannot be used; the daemon has not read an event yet."""


class ContractError(StreamerError):
    """A model file does not keep the model contract."""


class EventError(StreamerError):
    """One record cannot be used. `reason` is one of `core.events.REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StateError(StreamerError):
    """Saved state and the input do not fit together; going on would forecast from lost state."""
