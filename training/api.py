"""The trainer from Python: fit, backtest, export, report; each takes a path or what the path would give.

from training.api import backtest, export, fit

fitted = fit("configs/training/demo.yaml", "history.parquet")
print(backtest(fitted, "history.parquet").of("model").sql)
export(fitted, "model.onnx", "history.parquet")
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from streamer.adapters.onnx_session import OnnxModel
from streamer.core.contract import Model
from training import backtest as backtests
from training import export as exports
from training import fit as fits
from training import report as reports
from training.backtest import Backtest
from training.checkpoint import Fitted
from training.config import Config, Split, config_for, load_config
from training.data import Series, load_series
from training.files import data_digest
from training.parity import Difference
from training.stepping import TorchModel

Source = str | Path | Sequence[Series]

__all__ = ["backtest", "export", "fit", "report"]


def fit(config: str | Path | Config, data: Source, console: Console | None = None) -> Fitted:
    """Train by a config (or its YAML file) on data: files of rows (stream, ts, value), or series on the grid.

    console  shows a progress bar; none is shown by default
    returns  the network in evaluation mode, its manifest, and the losses at each validation, in units of the
             seasonal-naive error

    Raises ConfigError naming the setting, file or column that cannot be used.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    fitted = fits.fit(settings, _series(data, settings), console)
    if isinstance(data, str | Path):
        fitted = fitted.stamped(datetime.now(UTC), data_digest(data), str(data), {})
    return fitted


def backtest(model: str | Path | Fitted | Model, data: Source, split: Split | None = None, stride: int = 1) -> Backtest:
    """Score a fit, or a model file, beside seasonal naive and last value from the origins of the test part.

    split    where the parts end; by default the fit's, for a file the default shares
    stride   forecast from every so many-th origin
    returns  scores per stream and lead and their means: MASE and scaled quantile loss (SQL) without unit, sMAPE in
             percent, coverage and shares in [0, 1], widths in naive errors

    Raises ConfigError where the test part holds no whole forecast, ContractError for a file that is no model.
    Source: Hyndman & Koehler (2006) for MASE; Koenker & Bassett (1978) for the quantile loss.
    """
    if isinstance(model, Fitted):
        config, runner = model.config, TorchModel(model.network, model.manifest)
        return backtests.backtest(runner, _series(data, config), split or config.split, stride=stride)
    advancing = OnnxModel(model) if isinstance(model, str | Path) else model
    config = config_for(advancing.manifest, None)
    return backtests.backtest(advancing, _series(data, config), split or config.split, stride=stride)


def export(fitted: Fitted, path: str | Path, data: Source) -> Difference:
    """Write the model bundle, if onnxruntime agrees with torch on `data` and on harder cases.

    returns  the largest difference found, in units of max(|forecast|, the stream's spread)

    Raises ContractError where they disagree by more than rounding; then nothing is written.
    """
    return exports.export(fitted, path, _series(data, fitted.config))


def report(fitted: Fitted, path: str | Path, data: Source, stride: int = 1) -> list[Path]:
    """Write one self-contained HTML file, and its pictures as PNGs beside it, whose paths are returned."""
    return reports.write_report(fitted, _series(data, fitted.config), Path(path), stride)


def _series(data: Source, config: Config) -> Sequence[Series]:
    return load_series(data, config) if isinstance(data, str | Path) else data
