"""A training run's settings. A YAML file holds only what differs from these defaults."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from streamer.core.contract import Manifest, Name
from streamer.errors import ConfigError
from training.recurrence import Cell

HOUR_MS, DAY_MS, WEEK_MS = 3_600_000, 86_400_000, 604_800_000

Calendar = Literal["day", "week", "year"]
Part = Literal["skip", "gate", "window", "recurrence", "calibration"]
Border = Annotated[
    int | float | str, BeforeValidator(lambda x: x.isoformat() if isinstance(x, date) else x)
]  # see Split


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(_Section):
    """Where the tidy data lies and which columns it has."""

    path: str | None = Field(
        default=None,
        description="parquet, CSV or JSONL (also .gz), a folder of such files, or a pattern with `*`, `?` or `[…]`; "
        "relative to the working folder",
    )
    stream: str = Field(default="stream", description="column of the stream's id")
    ts: str = Field(default="ts", description="column of the time, UTC epoch milliseconds or a datetime")
    value: str = Field(default="value", description="column of the target; null is missing")
    covariates: tuple[str, ...] = Field(default=(), description="columns of past covariates, numbers")
    static: tuple[str, ...] = Field(default=(), description="columns of static categories, text")
    cache: str | None = Field(
        default=None, description="folder for the series on disk, where they are larger than the memory"
    )


class Split(_Section):
    """Where each part ends, in time order: train, validation, test.

    A border is a share of the stream (a float in (0, 1)), a number of steps from its start (an int; from its
    end if negative), or a UTC time in ISO 8601, which is the first moment of the next part.
    `end` cuts the stream first; shares are of what it leaves.
    """

    train_end: Border = 0.7
    validation_end: Border = 0.85
    end: Border | None = None
    folds: int = Field(default=1, ge=1, description="pieces that the test part is cut into")
    fold: int = Field(default=0, ge=0, description="the piece to test on; the borders before it move along")

    @model_validator(mode="after")
    def _has_the_fold(self) -> "Split":
        if self.fold >= self.folds:
            raise ValueError(f"fold must be less than folds {self.folds}, found {self.fold}")
        return self


class Model(_Section):
    """The network. Costs are per stream and step: hidden² for the cell, window × head for the head."""

    cell: Cell = "gru"
    hidden: int = Field(default=64, ge=1, description="D, units of the recurrent layer")
    layers: int = Field(default=1, ge=1)
    head: int = Field(default=64, ge=1, description="units of the head's inner layer")
    dropout: float = Field(default=0.2, ge=0, lt=1)
    embedding: int = Field(default=4, ge=1, description="numbers per static category")
    seasons: tuple[Annotated[int, Field(ge=2)], ...] | None = Field(
        default=None,
        description="seasonal periods in steps, shortest first; by default a day and a week where the step divides "
        "them and they fit in 1,000 steps; [] for none",
    )
    memory_steps: int | None = Field(
        default=None, ge=8, description="values a stream remembers; by default its longest season and its shortest"
    )
    calendar: tuple[Calendar, ...] | None = Field(
        default=None,
        description="periods seen as sine and cosine; by default the day and week longer than the step, and "
        "the year where the step is a day or more",
    )
    attention: int = Field(
        default=0, ge=0, description="K, recent hidden states that each step looks back at; 0 for none"
    )
    note: int = Field(default=16, ge=1, description="A, numbers kept of each; a stream's state grows by 4·K·A bytes")
    without: tuple[Part, ...] = Field(default=(), description="parts of the recipe to leave out, to see their worth")


class Training(_Section):
    """How it is fitted."""

    seed: int = 1
    steps: int = Field(default=800, ge=1, description="optimiser steps at most")
    batch: int = Field(default=32, ge=1, description="windows per step")
    window: int = Field(default=128, ge=2, description="T, steps of a window")
    warmup: int = Field(default=32, ge=0, description="first steps of a window that count no loss")
    origins: int = Field(default=24, ge=1, description="forecasts scored per window, chosen at random")
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    average: float = Field(default=0.995, ge=0, lt=1, description="decay of the weights' moving average")
    windows: Literal["random", "carried"] = Field(
        default="random",
        description="random: each starts from the ring its past fills; carried: each goes on from the one before, with "
        "its state (truncated back-propagation through time)",
    )
    hide: float = Field(default=0.1, ge=0, lt=1, description="share of inputs hidden in a quarter of the windows")
    validate_every: int = Field(default=100, ge=1, description="optimiser steps between validations")
    patience: int = Field(default=8, ge=1, description="validations without improvement before it stops")
    threads: int = Field(default=2, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="of the matrix products while training; bfloat16 is faster on CUDA"
    )

    @model_validator(mode="after")
    def _leaves_a_loss(self) -> "Training":
        if self.warmup >= self.window:
            raise ValueError(f"warmup must be less than window {self.window}, found {self.warmup}")
        return self


class Config(_Section):
    """Everything a run depends on, besides the data."""

    name: Name
    version: Name = "1"
    step_ms: int | None = Field(
        default=HOUR_MS, ge=1, description="the regular grid's step; null: every event is a step"
    )
    offset_ms: int = 0
    horizon: int = Field(default=24, ge=1, description="H, leads forecast")
    levels: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    data: Data = Data()
    split: Split = Split()
    model: Model = Model()
    training: Training = Training()

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if not self.levels or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"levels must be increasing, found {list(self.levels)}")
        if list(self.seasons) != sorted(set(self.seasons)):
            raise ValueError(f"model.seasons must be increasing, found {list(self.seasons)}")
        if self.seasons and self.memory_steps <= max(self.seasons):
            raise ValueError(
                f"model.memory_steps must be more than the longest season {self.seasons[-1]}, found {self.memory_steps}"
            )
        return self

    @property
    def seasons(self) -> tuple[int, ...]:
        """Seasonal periods in steps, shortest first."""
        if self.model.seasons is not None:
            return self.model.seasons
        if self.step_ms is None:
            return ()
        periods = (p // self.step_ms for p in (DAY_MS, WEEK_MS) if p % self.step_ms == 0)
        return tuple(p for p in periods if 2 <= p <= 1000)

    @property
    def memory_steps(self) -> int:
        """R, the values a stream remembers."""
        if self.model.memory_steps is not None:
            return self.model.memory_steps
        return self.seasons[0] + self.seasons[-1] if self.seasons else 96

    @property
    def calendar(self) -> tuple[Calendar, ...]:
        """Periods whose phase the network sees."""
        if self.model.calendar is not None:
            return self.model.calendar
        if self.step_ms is None:
            return ()
        names: list[Calendar] = ["day"] if self.step_ms < DAY_MS else []
        names += ["week"] if self.step_ms < WEEK_MS else []
        names += ["year"] if self.step_ms >= DAY_MS else []  # shorter steps are rarely followed for years
        return tuple(names)


def load_config(path: str | Path) -> Config:
    """The settings in a YAML file. Raises ConfigError naming file, setting, value and what was expected."""
    try:
        found = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a YAML file of settings") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: expected settings like `name: my-model`, found {found!r:.80}")
    try:
        return Config.model_validate(found)
    except ValidationError as error:
        problems = (_problem(dict(e)) for e in error.errors(include_url=False))
        raise ConfigError("\n".join(f"{path}: {p}" for p in problems)) from None


def config_for(manifest: Manifest, config: Config | None) -> Config:
    """Settings to prepare data for a model: its own grid, horizon and columns, the rest from `config`."""
    told = config.model_dump() if config else {}
    data = {**told.get("data", {}), "covariates": manifest.covariates, "static": tuple(manifest.static)}
    own = {name: getattr(manifest, name) for name in ("name", "version", "step_ms", "offset_ms", "horizon", "levels")}
    return Config.model_validate({**told, **own, "data": data})


def split_of(manifest: Manifest) -> Split | None:
    """The split that a model was fitted by, which the trainer notes with the scores; None where it is not noted."""
    try:
        return Split.model_validate((manifest.scores or {})["split"])
    except (KeyError, ValidationError):
        return None


def _problem(error: dict[str, object]) -> str:
    where = ".".join(map(str, error["loc"])) if error["loc"] else ""  # type: ignore[call-overload]
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return f"{where}: no such setting, found value {error['input']!r:.80}"
    if error["type"] == "missing":
        return f"{where}: is required"
    if not where or isinstance(error["input"], dict | Config):
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, found {error['input']!r:.80}"
