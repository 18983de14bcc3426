"""What several scenarios do with the processes of a group."""

import time
from collections.abc import Callable, Sequence

from tests.chaos.feeding import Feeding
from tests.chaos.oracle import Lives
from tests.chaos.scene import Scene
from tests.integration.daemon import Streamer
from tests.integration.records import Record
from tests.integration.waiting import eventually

JOIN_SECONDS = 180


def ready(daemons: Sequence[Streamer]) -> None:
    """Until each has its partitions, restored."""
    for daemon in daemons:
        eventually(lambda d=daemon: d.get("/readyz"), "a daemon is ready", JOIN_SECONDS)


def shared(made: Scene, daemons: Sequence[Streamer]) -> None:
    """Until these, and nobody else, have all partitions, none of them more than its share, restored."""

    def balanced() -> bool:
        owned = [daemon.metric("streamer_assigned_partitions") for daemon in daemons]
        return sum(owned) == made.workload.partitions and max(owned) - min(owned) <= 1

    eventually(balanced, "partitions shared", JOIN_SECONDS)
    ready(daemons)


class Kept:
    """A daemon that is started again when it has ended, as Kubernetes would."""

    def __init__(self, made: Scene, name: str) -> None:
        self._made, self._name = made, name
        self.daemon = made.start(name)
        self.restarts = 0
        made.watches.append(self._look)

    def kill(self) -> None:
        """End it at once, and start it again."""
        self.daemon.kill()
        self.daemon = self._made.start(self._name)

    def _look(self) -> None:
        if self.daemon.process.poll() is not None:
            self.daemon = self._made.start(self._name)
            self.restarts += 1


def finish(
    made: Scene,
    feeding: Feeding,
    name: str,
    say: Callable[[str, object], None],
    facts: str = "",
    lives: Lives | None = None,
) -> None:
    """All that is left is fed and forecast, and held against an uninterrupted run."""
    feeding.rest()
    made.await_done()
    verdict = made.verdict(lives)
    say(name, f"{facts} {verdict}".strip())
    assert verdict.is_clean, verdict


def first_half(made: Scene, end: Callable[[Streamer], object] = Streamer.kill) -> list[Record]:
    """Feed half of the workload, have it forecast, and end the daemon; returns the other half."""
    records = made.workload.records()
    half = len(records) // 2
    made.feed(records[:half])
    daemon = made.start()
    made.await_done()
    end(daemon)
    return records[half:]


def second_half(made: Scene, rest: Sequence[Record], **more: object) -> Streamer:
    """The rest of the workload, forecast by a daemon of its own."""
    made.feed(rest)
    daemon = made.start(**more)  # type: ignore[arg-type]
    made.await_done()
    return daemon


def after(seconds: float) -> None:
    """Let a time pass that is itself what is tested, such as the length of an outage."""
    time.sleep(max(0.0, seconds))
