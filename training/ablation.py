"""What each part of the recipe is worth: fit without it, score the same test part, put it in a table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console

from training.backtest import MODEL, backtest
from training.config import Config
from training.data import Series
from training.fit import fit
from training.scores import Score
from training.stepping import TorchModel, state_bytes

CHANGES: dict[str, dict[str, dict[str, object]]] = {
    "the whole recipe": {},
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
    "carried windows": {"training": {"windows": "carried"}},
    "attention over 24 hidden states": {"model": {"attention": 24}},
}


@dataclass(frozen=True)
class Row:
    """One variant's mean scores, and the bytes of a stream's state."""

    variant: str
    score: Score
    state_bytes: int


def ablate(config: Config, series: Sequence[Series], stride: int = 1, console: Console | None = None) -> Iterator[Row]:
    """Fit and score each of `CHANGES` with the config's seed; the naive forecasts come after the first."""
    for name, change in CHANGES.items():
        if console is not None:
            console.print(name, highlight=False)
        varied = changed(config, change)
        fitted = fit(varied, series, console)
        result = backtest(TorchModel(fitted.network, fitted.manifest), series, config.split, stride=stride)
        yield Row(name, result.of(MODEL), state_bytes(fitted.network))
        if not change:
            yield from (Row(f, result.of(f), 0) for f in result.forecasters if f != MODEL)


def changed(config: Config, change: dict[str, dict[str, object]]) -> Config:
    """The config with some entries of its sections changed."""
    entries = config.model_dump()
    for section, values in change.items():
        entries[section] = {**entries[section], **values}
    return Config.model_validate(entries)


def as_markdown(config: Config, rows: Sequence[Row]) -> str:
    """The table, and how to make it again."""
    whole = rows[0].score.sql
    lines = [
        f"# What each part is worth: {config.name}",
        "",
        "Written by `training ablation`. One seed each, so a difference of 2 % says little. SQL: mean pinball loss,",
        "doubled, over the seasonal-naive error of the training part; lower is better.",
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
