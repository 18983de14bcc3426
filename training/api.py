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
from streamer.errors import ConfigError
from training import backtest as backtests
from training import export as exports
from training import fit as fits
from training import report as reports
from training.backtest import Backtest
from training.checkpoint import Fitted
from training.config import Config, Split, config_for, load_config, split_of
from training.data import Series, load_series
from training.files import data_digest
from training.parity import Difference
from training.stepping import TorchModel

Source = str | Path | Sequence[Series]

__all__ = ["backtest", "export", "fit", "report"]


def fit(config: str | Path | Config, data: Source, console: Console | None = None) -> Fitted:
    """Train by a config (or its YAML file) on data: files of rows (stream, ts, value), or series on the grid.

    data     a file, folder or pattern: ts in UTC epoch milliseconds, a datetime or ISO 8601; value in stream units,
             null where missing. Or `Series` with time (n,) int64, value (n, 1+P) float64 and observed (n, 1+P)
             float32, P being the covariates that the config names
    console  shows a progress bar; none is shown by default
    returns  the network in evaluation mode, its manifest, and `history`: (optimiser step, training loss, validation
             loss) at each validation, the losses in units of a stream's seasonal-naive error

    Raises ConfigError naming the setting, file or column that cannot be used.
    Source: the loss is the pinball loss of Koenker & Bassett (1978), Regression Quantiles, Econometrica 46; its unit is
    that of Hyndman & Koehler (2006); AdamW is that of Loshchilov & Hutter (2019).
    """
    settings = config if isinstance(config, Config) else load_config(config)
    fitted = fits.fit(settings, _series(data, settings), console)
    if isinstance(data, str | Path):
        fitted = fitted.stamped(datetime.now(UTC), data_digest(data), str(data), {})
    return fitted


def backtest(model: str | Path | Fitted | Model, data: Source, split: Split | None = None, stride: int = 1) -> Backtest:
    """Score a fit, or a model file, beside seasonal naive and last value from the origins of the test part.

    data     as for `fit`; the origins are all steps of the test part with H leads after them
    split    where the parts end; by default that of the fit
    stride   forecast from every so many-th origin
    returns  a `Score` per forecaster, stream and lead (1…H; 0 is all), and their means over the streams: MASE and
             scaled quantile loss (SQL) without unit, sMAPE in percent (0 to 200), coverage and shares in [0, 1], widths
             in units of the seasonal-naive error of the stream's training part; NaN where that is 0 or unknown

    Raises ConfigError where the test part holds no whole forecast, or neither `split` nor the model says where it
    begins; ContractError for a file that is no model.
    Source: Hyndman & Koehler (2006), Another look at measures of forecast accuracy, IJF 22, for MASE; Makridakis,
    Spiliotis & Assimakopoulos (2020), The M4 Competition, IJF 36, for sMAPE; Koenker & Bassett (1978) for the
    quantile loss.
    """
    if isinstance(model, Fitted):
        config, runner = model.config, TorchModel(model.network, model.manifest)
        return backtests.backtest(runner, _series(data, config), split or config.split, stride=stride)
    advancing = OnnxModel(model) if isinstance(model, str | Path) else model
    config = config_for(advancing.manifest, None)
    chosen = split or split_of(advancing.manifest)
    if chosen is None:
        raise ConfigError(
            "split: the model does not say by which it was fitted; name one, with a test part unseen by it"
        )
    return backtests.backtest(advancing, _series(data, config), chosen, stride=stride)


def export(fitted: Fitted, path: str | Path, data: Source) -> Difference:
    """Write the model bundle, if onnxruntime agrees with torch on `data` and on harder cases.

    data     as for `fit`; its last steps are what is compared, H leads × Q levels after each
    returns  the largest difference found: of forecasts in units of max(|forecast|, the stream's standard deviation),
             of states in those of their largest element

    Raises ContractError where they disagree by more than rounding, and ConfigError where no stream holds a value; then
    nothing is written.
    """
    return exports.export(fitted, path, _series(data, fitted.config))


def report(fitted: Fitted, path: str | Path, data: Source, stride: int = 1) -> list[Path]:
    """Write one self-contained HTML file, and its pictures as PNGs beside it, whose paths are returned.

    data    as for `fit`; the scores and pictures are of the test part by the fit's split
    stride  forecast from every so many-th origin

    Raises ConfigError where the test part holds no whole forecast.
    Source: the scores are those of `backtest`; the reliability diagram is that of Gneiting, Balabdaoui & Raftery
    (2007), Probabilistic forecasts, calibration and sharpness, JRSS B 69.
    """
    return reports.write_report(fitted, _series(data, fitted.config), Path(path), stride)


def _series(data: Source, config: Config) -> Sequence[Series]:
    return load_series(data, config) if isinstance(data, str | Path) else data
