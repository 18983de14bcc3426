"""The library's own log lines, written as lines of ours.

It has few at its default level here, which keeps back the several a second while a broker is away; the operator asks
for more with `log_level` and `debug` in `kafka.options`.
"""

import logging

from streamer.kafka.wording import without_secrets
from streamer.settings import KafkaSettings

LIBRARY = logging.getLogger("librdkafka")
LIBRARY.setLevel(logging.DEBUG)  # what there is of them is for the library's `log_level` to say


class LogLines:
    """What the library takes for a logger: it calls `log` from its own events, served where it is polled."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    def log(self, level: int, form: str, *values: object) -> None:
        """One line, without the values of `kafka.options`."""
        LIBRARY.log(level, "%s", without_secrets(form % values, self._kafka))
