"""When the next transaction begins.

Its interval is counted from the transaction before, or from the first event after none. While the daemon keeps up, it
begins earlier by what the last one took, half an interval at most: what a reader waits is the interval, not the
interval and a commit on top. With a backlog, what counts is that transactions are few and large.
"""

EARLIEST = 0.5  # of the interval


class Pace:
    """The time between transactions, in seconds of one clock.

    interval  the setting `delivery.commit_interval_seconds`
    """

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._since = now
        self._took = 0.0
        self.behind = False  # whether a backlog waits to be read

    def begin(self, now: float) -> None:
        """The interval begins: with a transaction, or with the first event that waits for one."""
        self._since = now

    def took(self, seconds: float) -> None:
        """The last transaction's duration."""
        self._took = seconds

    def left(self, now: float) -> float:
        """Seconds until the next transaction is due; 0 when it is."""
        early = 0.0 if self.behind else min(self._took, EARLIEST * self._interval)
        return max(0.0, self._since + self._interval - early - now)
