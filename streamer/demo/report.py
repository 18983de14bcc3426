"""The demo's tables: what was replayed, and how good the forecasts of the test months were."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from streamer.demo import UNITS
from streamer.demo.score import Comparison, mean
from streamer.replay import Tally

CONSOLE = Console()
LEGEND = {
    "figures": "means over three airports; every hour of these months is an origin, and every lead counts",
    "MASE": "absolute error of the median, over that of repeating the day before in January to August",
    "pinball": "quantile loss, mean over the levels {levels}, in the variable's unit",
    "80 % band": "share of what came that lay between the levels 0.1 and 0.9",
    "naive": "seasonal naive: the last value seen at that hour of the day, with the quantiles of its own errors "
    "from January to August, stream by stream",
    "bold": "the lower, so better, of the two",
}


@contextmanager
def progress(total: int, task: str) -> Iterator[Callable[[int], None]]:
    """A progress bar over a number of events; gives the function that advances it."""
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=CONSOLE) as bar:
        shown = bar.add_task(task, total=total)
        yield lambda events: bar.advance(shown, events)


def print_replay(tally: Tally, seconds: float) -> None:
    """Events, forecasts, rejections by reason, and events per second."""
    table = Table("events", "forecasts", "rejected", "events per second", title="Replayed", title_justify="left")
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(tally.rejected.items())) or "none"
    table.add_row(f"{tally.consumed:,}", f"{tally.accepted:,}", reasons, f"{tally.consumed / seconds:,.0f}")
    CONSOLE.print(table)


def print_scores(scores: Mapping[str, Comparison], levels: Sequence[float]) -> None:
    """A row per variable and one for all of them, from the scores of every stream `airport/variable`."""
    table = Table(title="Scored: September to December, beside seasonal naive (24 h)", title_justify="left")
    table.add_column("variable", no_wrap=True)
    for heading in ("MASE", "pinball", "80 % band"):
        table.add_column(heading, justify="right")
        table.add_column("naive", justify="right")
    for variable, unit in UNITS.items():
        c = mean([score for stream, score in scores.items() if stream.endswith(f"/{variable}")])
        pinball = _lower_is_bold(c.model.pinball, c.naive.pinball)
        table.add_row(f"{variable} [dim]{unit}[/]", *_mase(c), *pinball, *_band(c))
    overall = mean(list(scores.values()))
    table.add_section()
    table.add_row("all", *_mase(overall), "", "", *_band(overall))
    legend = Table.grid(padding=(0, 2))
    for term, meaning in LEGEND.items():
        legend.add_row(term, meaning.format(levels=", ".join(map(str, levels))), style="dim")
    CONSOLE.print(table, legend, sep="\n")


def print_files(forecasts: Path, chart: Path) -> None:
    """Where the results lie."""
    CONSOLE.print(f"forecasts  {forecasts}\nfan chart  {chart}", highlight=False, soft_wrap=True)


def _mase(c: Comparison) -> tuple[str, str]:
    return _lower_is_bold(c.model.mase, c.naive.mase)


def _band(c: Comparison) -> tuple[str, str]:
    return f"{c.model.coverage:.1%}", f"{c.naive.coverage:.1%}"


def _lower_is_bold(model: float, naive: float) -> tuple[str, str]:
    texts = f"{model:.3f}", f"{naive:.3f}"
    return (f"[bold]{texts[0]}[/]", texts[1]) if model < naive else (texts[0], f"[bold]{texts[1]}[/]")
