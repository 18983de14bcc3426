"""What a fit leaves: the network, what its file needs to say, and both on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from streamer.core.contract import Manifest
from streamer.errors import ConfigError
from training.config import Config
from training.network import Forecaster


@dataclass(frozen=True)
class Fitted:
    """A trained network with what its file needs to say.

    history  (step, training loss, validation loss) at each validation; losses in units of the naive error
    data     the file it was trained on, if it was one
    rank     of the process that fitted it, where several did; the others' are the same, and only 0 writes
    """

    config: Config
    network: Forecaster
    manifest: Manifest
    history: tuple[tuple[int, float, float], ...] = ()
    data: str | None = None
    rank: int = 0

    @property
    def score(self) -> float:
        """The best validation loss, in units of the naive error."""
        return min((validation for _, _, validation in self.history), default=float("nan"))

    def stamped(self, created: datetime, data_digest: str, data: str, scores: Mapping[str, float]) -> "Fitted":
        """The same, its manifest saying when, on what, and how well it did in validation."""
        facts = {
            "created": created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "data_digest": data_digest,
            "scores": {**(self.manifest.scores or {}), "validation_sql": round(self.score, 4), **scores},
        }
        return replace(self, manifest=self.manifest.model_copy(update=facts), data=data)


def save_checkpoint(fitted: Fitted, path: str | Path) -> None:
    """Weights, settings and manifest, for `training export`. Raises ConfigError as `write_whole` does."""
    saved = {
        "config": fitted.config.model_dump(mode="json"),
        "manifest": fitted.manifest.model_dump(mode="json"),
        "weights": fitted.network.state_dict(),
        "history": [list(h) for h in fitted.history],
        "data": fitted.data,
    }
    write_whole(saved, Path(path))


def write_whole(saved: dict[str, Any], path: Path) -> None:
    """Write a file in one piece or not at all; ConfigError where there is no room or no folder for it."""
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(saved, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch raises either, with a page about its own code
        partial.unlink(missing_ok=True)
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{path}: cannot be written: {reason:.200}; make room there, or name another place. What was saved before "
            "is whole: `training fit … --resume` goes on from it"
        ) from error


def load_checkpoint(path: str | Path) -> Fitted:
    """What `training fit` saved. Raises ConfigError if it cannot be read."""
    try:
        saved = torch.load(path, weights_only=True)
        config, manifest = Config.model_validate(saved["config"]), Manifest.model_validate(saved["manifest"])
        network = Forecaster.of(config, manifest)
        network.load_state_dict(saved["weights"])
        data = saved["data"]
        history = tuple((int(s), float(t), float(v)) for s, t, v in saved["history"])
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; name a checkpoint of `training fit`") from None
    except UnpicklingError:  # whose message advises to load the file without care
        raise ConfigError(f"{path}: not a checkpoint: torch did not save it; name one of `training fit`") from None
    except Exception as error:  # torch raises whatever the bytes lead it to
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{path}: not a checkpoint of this version's `training fit`: {reason:.300}") from None
    return Fitted(config, network.eval(), manifest, history, data)
