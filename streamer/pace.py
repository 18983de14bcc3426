"""When the next transaction begins.

Its interval is counted from the transaction before, or from the first event after none. While the daemon keeps up, it
begins earlier by what transactions take, half an interval at most: what a reader waits is the interval, not the
interval and a commit on top. How long one may take is estimated as TCP estimates a round trip, from the mean and its
deviation (Jacobson, "Congestion avoidance and control", 1988). With a backlog, what counts is that transactions are
few and large.
"""

EARLIEST = 0.5  # of the interval
MEAN_GAIN, DEVIATION_GAIN = 1 / 8, 1 / 4  # how much the last one counts
DEVIATIONS = 4  # above the mean


class Pace:
    """The time between transactions, in seconds of one clock.

    interval  the setting `delivery.commit_interval_seconds`
    """

    def __init__(self, interval: float, now: float) -> None:
        self._interval = interval
        self._since = now
        self._mean = self._deviation = 0.0  # of a transaction's duration
        self.behind = False  # whether a backlog waits to be read

    def begin(self, now: float) -> None:
        """The interval begins: with a transaction, or with the first event that waits for one."""
        self._since = now

    def took(self, seconds: float) -> None:
        """The last transaction's duration."""
        off = seconds - self._mean
        self._mean += MEAN_GAIN * off
        self._deviation += DEVIATION_GAIN * (abs(off) - self._deviation)

    def left(self, now: float) -> float:
        """Seconds until the next transaction is due; 0 when it is."""
        takes = self._mean + DEVIATIONS * self._deviation
        early = 0.0 if self.behind else min(takes, EARLIEST * self._interval)
        return max(0.0, self._since + self._interval - early - now)
