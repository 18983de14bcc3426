"""A model whose every call is timed; to the engine it is the model."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.core.contract import Block, Manifest, Model, Signature, Taken


class TimedModel:
    """Tells `on_block` each block that was advanced and the seconds it took."""

    def __init__(
        self, model: Model, on_block: Callable[[Block, float], None], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._model, self._on_block, self._clock = model, on_block, clock

    @property
    def manifest(self) -> Manifest:
        return self._model.manifest

    @property
    def signature(self) -> Signature:
        return self._model.signature

    def advance(self, block: Block, state: Sequence[Any]) -> tuple[npt.NDArray[np.float32], Taken]:
        """Quantiles (N, H, Q) at the emitted positions, and every row's state after its last step."""
        begin = self._clock()
        result = self._model.advance(block, state)
        self._on_block(block, self._clock() - begin)
        return result
