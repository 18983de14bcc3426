"""Confusion matrices for questions users ask of a forecast: which way will it go, and will it cross a threshold?

The answer is the median's. A direction is the sign of the change since the last value seen; a change smaller
than a tenth of the naive error is `flat`. The threshold is high for each stream: the level that one in ten of
its training values exceed.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.table import Table

from training.data import Parts, Series
from training.scores import Floats, Outcome

FLAT = 0.1  # naive errors; a smaller change has no direction
HIGH = 0.9  # of the training values lie below the threshold
DIRECTIONS = ("down", "flat", "up")
CROSSINGS = ("stays below", "goes above")

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matrix:
    """Counts of what was forecast (columns) against what came (rows)."""

    question: str
    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Share of right answers; NaN where the question never arose."""
        total = sum(map(sum, self.counts))
        return sum(row[i] for i, row in enumerate(self.counts)) / total if total else float("nan")

    @property
    def most_frequent(self) -> float:
        """Share of the most frequent truth: the accuracy of always giving that answer."""
        rows = [sum(row) for row in self.counts]
        return max(rows) / sum(rows) if sum(rows) else float("nan")

    def table(self) -> Table:
        """A table for the terminal."""
        table = Table(title=f"{self.question}: {self.accuracy:.0%} right, always the same {self.most_frequent:.0%}")
        for name in ("what came", *(f"forecast {a}" for a in self.answers)):
            table.add_column(name, justify="left" if name == "what came" else "right")
        for answer, row in zip(self.answers, self.counts, strict=True):
            table.add_row(answer, *(f"{c:,}" for c in row))
        return table


def ask(outcome: Outcome, series: Series, borders: Parts, stride: int) -> list[Matrix]:
    """Both questions of one stream's outcome: the directions to the first and to the last lead, and the crossing."""
    levels, horizon = np.array(outcome.levels), outcome.actual.shape[1]
    median = outcome.predicted[..., int(np.argmin(np.abs(levels - 0.5)))]
    origins = np.arange(borders.validation - 1, borders.end - horizon, stride)
    last = series.target[origins]
    out = []
    for lead in sorted({1, horizon}):
        truth, said = outcome.actual[:, lead - 1], median[:, lead - 1]
        codes = [_direction(x - last, FLAT * outcome.scale) for x in (truth, said)]
        known = ~np.isnan(truth) & ~np.isnan(last)
        out.append(_matrix(f"direction to lead {lead}", DIRECTIONS, codes[0][known], codes[1][known]))
    history = series.target[: borders.train]
    if not np.isnan(history).all():
        out.append(_crossing(outcome.actual, median, last, float(np.nanquantile(history, HIGH))))
    return out


def summed(matrices: Iterable[Matrix]) -> tuple[Matrix, ...]:
    """One matrix per question, the counts of all streams added."""
    totals: dict[str, Matrix] = {}
    for m in matrices:
        if (old := totals.get(m.question)) is not None:
            counts = tuple(
                tuple(a + b for a, b in zip(r, s, strict=True)) for r, s in zip(old.counts, m.counts, strict=True)
            )
            m = replace(m, counts=counts)
        totals[m.question] = m
    return tuple(totals.values())


def _crossing(actual: Floats, median: Floats, last: Floats, threshold: float) -> Matrix:
    """Asked where the stream lies below its threshold and every lead is known."""
    asked = (last <= threshold) & ~np.isnan(actual).any(axis=1)
    truth, said = (np.any(x[asked] > threshold, axis=1).astype(np.int64) for x in (actual, median))
    return _matrix("crossing of a high threshold within the horizon", CROSSINGS, truth, said)


def _direction(change: Floats, flat: float) -> Codes:
    return (1 + (change > flat).astype(np.int64) - (change < -flat)).astype(np.int64)


def _matrix(question: str, answers: tuple[str, ...], truth: Codes, said: Codes) -> Matrix:
    size = len(answers)
    counts = np.bincount(truth * size + said, minlength=size * size).reshape(size, size)
    return Matrix(question, answers, tuple(tuple(int(c) for c in row) for row in counts))
