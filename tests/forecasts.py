"""Forecasts by hand, as the engine would hand them out."""

from collections.abc import Sequence

import numpy as np

from streamer.core.contract import Manifest
from streamer.core.events import Partition, Records
from streamer.core.forecasts import Forecasts


def manifest(levels: Sequence[float] = (0.1, 0.5, 0.9), horizon: int = 2, step_ms: int | None = 3_600_000) -> Manifest:
    return Manifest(
        contract=1, name="gru-64", version="3", cell="gru", grid="regular" if step_ms else "per_event",
        step_ms=step_ms, horizon=horizon, levels=tuple(levels), warmup_steps=0,
    )  # fmt: skip


def forecasts(
    quantiles: object,
    streams: Sequence[str],
    offsets: Sequence[int],
    origin: int = 1_700_000_000_000,
    topic: str = "events",
) -> Forecasts:
    """Forecasts (n, H, Q) of the last n records; all but the first are warm."""
    n = len(streams)
    raw = Records(Partition(topic, 3), offsets, None, [None] * len(offsets), [b""] * len(offsets))
    index = np.arange(len(offsets) - n, len(offsets))
    return Forecasts(
        raw,
        index,
        list(streams),
        index,
        index < 0,
        np.full(n, origin),
        np.arange(n) > 0,
        np.ones(n, bool),
        np.asarray(quantiles, np.float32),
        [],
    )
