"""Bytes that snapshots cost in steady state, counted over a simulated hour; no broker, and clocks moved by hand.

    python -m tests.benchmarks.changelog

The daemon's own engine and checkpoint run as its loop runs them, with a boundary every half second.

    fast   every stream ticks each second: a snapshot covers ten events, so the changelog gets about a tenth of a
           snapshot per event. `state.snapshot_share` is 1 here: the figure is the interval's, not the share's
    slow   every stream ticks each minute: after ten seconds each event wants a snapshot of its own, and the share holds
           them back
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from streamer.adapters.onnx_session import OnnxModel
from streamer.checkpoint import Checkpoint, Part, SnapshotPolicy, Topics
from streamer.core.engine import Engine
from streamer.core.events import Partition, Records
from streamer.core.ledger import Ledger
from streamer.core.snapshot import SnapshotFormat
from streamer.core.wire import ForecastEncoder
from streamer.settings import StateSettings
from streamer.tasks import Phase, Task, changelog_of
from tests import models
from tests.drive import new_engine

HOUR_SECONDS = 3_600
BOUNDARY_SECONDS = 0.5  # the default 0.1 is five times the work, and snapshots come at most 0.4 s sooner
WARM_UP_SECONDS = 60  # every stream has begun by then: first snapshots are due at once, and no steady state
BEGIN_MS = 1_700_000_040_000
HIDDEN = 370  # 4 bytes each: with its frame a snapshot of about 1.6 KB
EVENTS = Partition("events", 0)
CHANGELOG = changelog_of("group", EVENTS)


@dataclass
class Counted:
    """What was written, and for how many events."""

    events: int = 0
    snapshots: int = 0
    changelog_bytes: int = 0
    other_bytes: int = 0

    def add(self, parts: Sequence[Part], events: int) -> None:
        self.events += events
        self.snapshots += sum(part.snapshots for part in parts)
        for messages in (m for part in parts for m in part.messages):
            size = sum(len(value or b"") for value in messages.values)
            if messages.partition == CHANGELOG:
                self.changelog_bytes += size
            else:
                self.other_bytes += size

    @property
    def share(self) -> float:
        """The changelog's, of all bytes written."""
        return self.changelog_bytes / (self.changelog_bytes + self.other_bytes)


class Hour:
    """Streams that tick evenly, each at its own moment between two of its steps."""

    def __init__(self, folder: Path, streams: int, step_seconds: int, share: float) -> None:
        design = models.gru(hidden=HIDDEN, horizon=24, step_ms=1000 * step_seconds)
        model = OnnxModel(models.save(design, folder / f"gru-{step_seconds}.onnx"))
        state = StateSettings()
        self.format = SnapshotFormat(model.fingerprint, model.signature.states, 0)
        self._streams, self._step = streams, step_seconds
        self._engine: Engine = new_engine(model, max_streams=streams)
        topics = Topics("forecasts", "", partial(changelog_of, "group"))
        policy = SnapshotPolicy(state.snapshot_interval_seconds, share, state.max_replay_events)
        self._checkpoint = Checkpoint(self._engine, ForecastEncoder(model.manifest), self.format, topics, policy)
        self._task = Task(EVENTS, Ledger(self._engine.arena), Phase.RUNNING)

    def run(self) -> Counted:
        """Every boundary of the hour, counted once all streams have had time to begin."""
        tick = BOUNDARY_SECONDS
        counted, sent = Counted(), 0
        for boundary in range(round((WARM_UP_SECONDS + HOUR_SECONDS) / tick)):
            now = (boundary + 1) * tick
            due = int(now * self._streams / self._step)
            self._advance(range(sent, due), now)
            parts = self._checkpoint.cut([self._task], now)
            if now > WARM_UP_SECONDS + tick / 2:
                counted.add(parts, due - sent)
            sent = due
        return counted

    def _advance(self, events: range, now: float) -> None:
        if not events:
            return
        lines = [self._line(event) for event in events]
        records = Records(EVENTS, events, None, [None] * len(lines), lines)
        for forecasts in self._engine.advance([records]).forecasts:
            self._checkpoint.add(self._task, forecasts, now)

    def _line(self, event: int) -> bytes:
        step, stream = divmod(event, self._streams)
        value = 50 + (event * 7919) % 1000 / 40  # anything between 50 and 75
        return b'{"stream":"meter-%06d","ts":%d,"value":%.3f}' % (stream, BEGIN_MS + step * self._step * 1000, value)


def main() -> None:
    share = StateSettings().snapshot_share
    with tempfile.TemporaryDirectory() as folder:
        fast = Hour(Path(folder), streams=20, step_seconds=1, share=1.0)
        slow = Hour(Path(folder), streams=1_200, step_seconds=60, share=share)
        one, many = fast.run(), slow.run()
    each = fast.format.bytes_per_snapshot
    print(f"a simulated hour, snapshots of {each} bytes, 10 s after a change")
    for name, c in (("fast", one), ("slow", many)):
        forecasts, changelog = c.other_bytes / 1e6, c.changelog_bytes / 1e6
        print(f"{name}: {c.events:,} events, {c.snapshots:,} snapshots; ", end="")
        print(f"{forecasts:.1f} MB of forecasts, {changelog:.1f} MB of changelog")
    per_event = one.changelog_bytes / one.events / each
    print(f"fast: changelog bytes per event / one snapshot: {per_event:.3f}   (at most 0.12)")
    print(f"slow: snapshots' share of the bytes written:    {many.share:.3f}   (at most {share}, the setting)")


if __name__ == "__main__":
    main()
