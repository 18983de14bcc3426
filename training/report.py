"""One self-contained HTML file about a fit: what a sceptic asks first; its pictures also as PNGs beside it."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from training.backtest import MODEL, Backtest, backtest
from training.checkpoint import Fitted
from training.data import Series
from training.pictures import Picture, pictures_of
from training.problems import problems_of
from training.questions import FLAT, HIGH, Matrix
from training.scores import MEAN, Score
from training.stepping import TorchModel, state_bytes

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #d5dde5 }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #e6ebf0 }
th:first-child, td:first-child { text-align: left } th { font-weight: 600; color: #5a6b7b }
tr.model td { font-weight: 600 } td.right { background: #e3f1e8 }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption, .note { color: #5a6b7b; font-size: .9rem }
"""
WORST = 10  # streams listed by name
QUESTIONS = (
    f'<p class="note">The median answers. A direction is that of the change since the last value seen; below '
    f"{FLAT:g} naive errors it is flat. A stream's threshold is what {1 - HIGH:.0%} of its training values exceed; it "
    "is asked about where the stream lies below it.</p>"
)


def write_report(fitted: Fitted, series: Sequence[Series], output: Path, stride: int = 1) -> list[Path]:
    """Write `output` and a PNG per picture beside it; returns the PNGs' paths.

    Scores and pictures are of the test part, from every `stride`-th origin.
    Raises ConfigError where the split leaves no test part.
    """
    model = TorchModel(fitted.network, fitted.manifest)
    result = backtest(model, series, fitted.config.split, stride=stride)
    output.parent.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of(fitted, series, result)
    paths = []
    for picture in pictures:
        path = output.with_name(f"{output.stem}-{picture.name}.png")
        path.write_bytes(picture.png)
        paths.append(path)
    output.write_text(page(fitted, series, result, pictures))
    return paths


def page(fitted: Fitted, series: Sequence[Series], result: Backtest, pictures: Sequence[Picture]) -> str:
    """The whole page; it asks for nothing from elsewhere."""
    model = fitted.manifest.model_id
    shown = {p.name: p for p in pictures}
    sections = [
        ("Scores on the test part", _scores(result) + _worst(result)),
        ("Skill per lead", _figures(shown, "skill")),
        ("Calibration", _figures(shown, "reliability") + _levels(result)),
        ("Forecasts", _figures(shown, "fan")),
        ("Questions", QUESTIONS + "".join(map(_matrix, result.matrices)) if result.matrices else ""),
        ("Attention", _figures(shown, "attention")),
        ("Training", _figures(shown, "losses")),
        ("Data", _data(series) + _figures(shown, "data")),
    ]
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections if content)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(model)}</title><style>{STYLE}</style>'
        f"<h1>{escape(model)}</h1><p>{_summary(fitted, result)}</p>{body}</html>\n"
    )


def _summary(fitted: Fitted, result: Backtest) -> str:
    config, score = fitted.config, result.of(MODEL)
    step = "every event a step" if config.step_ms is None else f"steps of {config.step_ms / 60_000:g} minutes"
    saved = f"{abs(result.skill(score)):.0%} {'lower' if result.skill(score) > 0 else 'higher'}"
    return (
        f"A {config.model.cell.upper()} of {config.model.hidden} units; {step}, {config.horizon} leads, "
        f"{len(config.levels)} quantile levels, {state_bytes(fitted.network):,} bytes of state per stream. Over "
        f"{score.forecasts:,} forecasts its quantile loss is {saved} than that of the better naive forecast."
    )


def _scores(result: Backtest) -> str:
    share = round(100 * (result.levels[-1] - result.levels[0]))
    heads = ("", "SQL", "MASE", "sMAPE", f"coverage of {share} %", "its width", "skill")
    rows = [(f, result.of(f)) for f in result.forecasters]
    note = (
        "SQL: mean pinball loss, doubled, in units of the seasonal-naive error of the training part. Skill: the share "
        "of the better naive forecast's SQL that is saved. Means over the streams, each weighing the same."
    )
    table = _table(heads, [_score_cells(result, name, s) for name, s in rows], mark=0)
    return f'{table}<p class="note">{note}</p>'


def _score_cells(result: Backtest, name: str, s: Score) -> list[str]:
    numbers = (f"{s.sql:.3f}", f"{s.mase:.3f}", f"{s.smape:.1f} %", f"{s.coverage:.1%}", f"{s.width:.2f}")
    return [escape(name), *numbers, f"{result.skill(s):.1%}"]


def _worst(result: Backtest) -> str:
    rows = [s for s in result.scores if s.forecaster == MODEL and s.lead == 0 and s.stream != MEAN and s.sql == s.sql]
    if len(rows) < 2:
        return ""
    rows = sorted(rows, key=result.skill)
    losing = sum(result.skill(s) < 0 for s in rows)
    heads = ("least skill", "SQL", "MASE", "sMAPE", "coverage", "width", "skill")
    note = f"{losing:,} of {len(rows):,} streams are forecast worse than by the better naive forecast, seen afterwards."
    return f"<p>{note}</p>" + _table(heads, [_score_cells(result, s.stream, s) for s in rows[:WORST]])


def _levels(result: Backtest) -> str:
    score, levels = result.of(MODEL), result.levels
    rows = [
        [f"{levels[-1 - i] - levels[i]:.0%}", f"{coverage:.1%}", f"{width:.2f}"]
        for i, (coverage, width) in enumerate(zip(score.coverages, score.widths, strict=True))
    ]
    return _table(("central interval", "covers", "width, naive errors"), rows) if rows else ""


def _matrix(matrix: Matrix) -> str:
    heads = ("what came ↓ forecast →", *matrix.answers)
    cells = [
        f"<tr><td>{a}</td>"
        + "".join(f"<td{' class=right' if i == j else ''}>{n:,}</td>" for j, n in enumerate(row))
        + "</tr>"
        for i, (a, row) in enumerate(zip(matrix.answers, matrix.counts, strict=True))
    ]
    head = "".join(f"<th>{h}</th>" for h in heads)
    note = (
        f"{matrix.accuracy:.0%} right; always answering the same would be right {matrix.most_frequent:.0%} of the time."
    )
    return f'<h3>{escape(matrix.question)}</h3><table><tr>{head}</tr>{"".join(cells)}</table><p class="note">{note}</p>'


def _data(series: Sequence[Series]) -> str:
    missing = 1 - sum(float(s.observed[:, 0].sum()) for s in series) / sum(map(len, series))
    troubled = [(s.stream, "; ".join(found)) for s in series if (found := problems_of(s))]
    rows = [[escape(name), escape(text)] for name, text in troubled[:WORST]]
    text = f"<p>{len(series):,} streams, {sum(map(len, series)):,} steps, {missing:.1%} of them missing; "
    text += f"{len(troubled):,} streams have problems.</p>"
    return text + (_table(("stream", "problems"), rows) if rows else "")


def _figures(shown: dict[str, Picture], prefix: str) -> str:
    return "".join(_figure(p) for name, p in shown.items() if name.startswith(prefix))


def _figure(picture: Picture) -> str:
    data, caption = base64.b64encode(picture.png).decode(), escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], mark: int | None = None) -> str:
    head = "".join(f"<th>{h}</th>" for h in heads)
    body = "".join(
        f"<tr{' class=model' if i == mark else ''}>{''.join(f'<td>{c}</td>' for c in row)}</tr>"
        for i, row in enumerate(rows)
    )
    return f"<table><tr>{head}</tr>{body}</table>"
