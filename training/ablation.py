"""What each part of the recipe is worth: fit without it, score the same test part, put it in a table."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from streamer.errors import ConfigError
from training.backtest import MODEL, backtest
from training.config import Config
from training.data import Series
from training.fit import fit
from training.scores import Score
from training.stepping import TorchModel, state_bytes

WHOLE = "the whole recipe"
CHANGES: dict[str, dict[str, dict[str, object]]] = {
    WHOLE: {},
    "LSTM": {"model": {"cell": "lstm"}},
    "SimpleRNN": {"model": {"cell": "rnn"}},
    "without the recurrence": {"model": {"without": ["recurrence"]}},
    "without seasonal memory": {"model": {"seasons": []}},
    "without the linear skip": {"model": {"without": ["skip"]}},
    "without the gate (season always followed)": {"model": {"without": ["gate"]}},
    "without the window in the head": {"model": {"without": ["window"]}},
    "without calibrated widths": {"model": {"without": ["calibration"]}},
    "without calendar features": {"model": {"calendar": []}},
    "without dropout": {"model": {"dropout": 0.0}},
    "without the weights' average": {"training": {"average": 0.0}},
    "without hidden observations": {"training": {"hide": 0.0}},
    "carried windows instead of random ones": {"training": {"windows": "carried"}},
    "attention over 24 hidden states": {"model": {"attention": 24}},
}


@dataclass(frozen=True)
class Row:
    """One variant's mean scores, and the bytes of a stream's state."""

    variant: str
    score: Score
    state_bytes: int


class Table:
    """The rows so far, kept on disk: each took a fit, so an interruption may cost one and no more.

    path     a JSON file, always whole
    subject  what decides the rows, as plain values: settings, data, origins
    """

    def __init__(self, path: Path, subject: dict[str, object], resume: bool) -> None:
        self.path, self.subject = path, subject
        self.rows = _rows_of(path, subject) if resume else []

    def add(self, rows: Sequence[Row]) -> None:
        """One variant's rows."""
        self.rows += rows
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps({"subject": self.subject, "rows": [asdict(row) for row in self.rows]}))
        partial.replace(self.path)


def ablate(
    config: Config, series: Sequence[Series], stride: int = 1, console: Console | None = None, done: Sequence[Row] = ()
) -> Iterator[list[Row]]:
    """Fit and score each of `CHANGES` with the config's seed: a list of its row, the first's also of the naive ones.

    done  rows that there are; their variants are not fitted again
    """
    names = {row.variant for row in done}
    for name, change in CHANGES.items():
        if name in names:
            continue
        if console is not None:
            console.print(name, highlight=False)
        varied = changed(config, change)
        fitted = fit(varied, series, console)
        result = backtest(TorchModel(fitted.network, fitted.manifest), series, config.split, stride=stride)
        naive = [] if change else [Row(f, result.of(f), 0) for f in result.forecasters if f != MODEL]
        yield [Row(name, result.of(MODEL), state_bytes(fitted.network)), *naive]


def changed(config: Config, change: dict[str, dict[str, object]]) -> Config:
    """The config with some entries of its sections changed."""
    entries = config.model_dump()
    for section, values in change.items():
        entries[section] = {**entries[section], **values}
    return Config.model_validate(entries)


def as_markdown(config: Config, rows: Sequence[Row], command: str) -> str:
    """The table, and the command that makes it again."""
    whole = rows[0].score.sql
    lines = [
        f"# What each part is worth: {config.name}",
        "",
        "Fitted, and scored on the test part, with one part changed at a time:",
        "",
        f"    {command}",
        "",
        "One seed each, so a difference of 2 % says little. SQL: mean pinball loss, doubled, over the seasonal-naive",
        "error of the training part; MASE: that of the median; lower is better. The whole recipe is a "
        f"{config.model.cell.upper()}",
        f"fitted on {config.training.windows} windows.",
        "",
        "| variant | SQL | against the whole | MASE | coverage of the outer levels | state, bytes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        s = row.score
        size = f"{row.state_bytes:,}" if row.state_bytes else ""
        lines.append(
            f"| {row.variant} | {s.sql:.3f} | {s.sql / whole - 1:+.1%} | {s.mase:.3f} | {s.coverage:.3f} | {size} |"
        )
    return "\n".join(lines) + "\n"


def _rows_of(path: Path, subject: dict[str, object]) -> list[Row]:
    """Raises ConfigError where the file is not there, or holds the rows of another table."""
    try:
        saved = json.loads(path.read_text())
        found, rows = saved["subject"], [_row(entries) for entries in saved["rows"]]
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; there is no table to go on with") from None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{path}: not a table of this version that was cut short; leave out --resume") from None
    if found != subject:
        raise ConfigError(f"{path}: holds rows by other settings, data or origins; leave out --resume to start again")
    return rows


def _row(entries: dict[str, Any]) -> Row:
    score: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in entries["score"].items()}
    return Row(entries["variant"], Score(**score), entries["state_bytes"])
