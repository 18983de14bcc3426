"""Whether the group has taken this member in, which nobody tells of a first assignment that is empty."""

import math
from collections.abc import Callable

IDLE_SECONDS = 10.0  # in the group without partitions: three heartbeats, by which others hear what to give back


class Admission:
    """What is known of it.

    joined  whether this member was once given what it gets: partitions, or after a while without any that none are left
    """

    def __init__(self) -> None:
        self.joined = False
        self._since = math.inf

    def look(self, has_partitions: bool, is_member: Callable[[], bool], now: float) -> bool:
        """Whether the group has taken this member in, `now` in seconds; `is_member` is asked without partitions only.

        An empty assignment may be but the first of two: partitions that others are to give back come with the next.
        """
        if not (has_partitions or is_member()):
            self._since = math.inf
            return False
        self._since = min(self._since, now)
        self.joined = self.joined or has_partitions or now - self._since >= IDLE_SECONDS
        return True
