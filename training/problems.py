"""What is wrong with the data, in one table, before anything is trained on it."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from streamer.core.decoding import Limits
from training.data import Series

ROWS = 20  # of the table; further streams are counted
FEW = 2  # different values below which a stream is constant
SPARSE = 0.5  # share of missing steps from which they are a problem
FAST = 0.01  # of the step; events so close are not of this grid
MAX_ABS = Limits().max_abs
EARLY_MS = 10**10  # April 1970: this year's times in seconds, read as milliseconds, lie before it


def problems_of(series: Series) -> list[str]:
    """Each problem of a stream, in words; none is an error, all are worth a look."""
    target, tally = series.target, series.tally
    seen = target[~np.isnan(target)]
    found = []
    if not seen.size:
        found.append("no value at all")
    elif len(np.unique(seen[: 10 * FEW])) < FEW and np.ptp(seen) == 0:
        found.append(f"constant at {seen[0]:g}")
    if beyond := int((np.abs(series.value) > MAX_ABS).sum()):
        found.append(f"{beyond:,} numbers beyond ±{MAX_ABS:g} (the daemon rejects them: input.max_abs)")
    if tally.duplicates:
        found.append(f"{tally.duplicates:,} duplicates (the first of a slot counts)")
    if tally.unordered:
        found.append(f"{tally.unordered:,} rows out of time order (sorted; live they would be late)")
    if tally.step_ms and series.time[-1] < EARLY_MS and tally.usual_step_ms < FAST * tally.step_ms:
        found.append("all before May 1970: epoch seconds, where milliseconds are expected?")
    missing = 1 - seen.size / len(target)
    if seen.size and missing > SPARSE:
        found.append(f"{missing:.0%} of the steps missing")
    if tally.usual_step_ms and tally.step_ms and abs(tally.usual_step_ms / tally.step_ms - 1) > 0.02:
        found.append(f"events {tally.usual_step_ms / 1000:g} s apart, step_ms says {tally.step_ms / 1000:g} s")
    return found


def problem_table(series: Sequence[Series]) -> Table | None:
    """A row per stream with problems, or None where there is none."""
    found = [(s, text) for s in series if (text := problems_of(s))]
    if not found:
        return None
    table = Table(title=f"Data: {len(found):,} of {len(series):,} streams have problems")
    for name in ("stream", "steps", "problems"):
        table.add_column(name, justify="right" if name == "steps" else "left")
    for s, texts in found[:ROWS]:
        table.add_row(s.stream, f"{len(s):,}", "; ".join(texts))
    if len(found) > ROWS:
        kinds = Counter(t.split(" (")[0].lstrip("0123456789,. %") for _, texts in found[ROWS:] for t in texts)
        rest = "; ".join(f"{kind}: {n:,}" for kind, n in kinds.most_common(5))
        table.add_row(f"… {len(found) - ROWS:,} more", "", rest)
    return table
