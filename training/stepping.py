"""Advance a model over whole series, block by block with carried states, and collect its forecasts."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from streamer.core.contract import Array, Block, Manifest, Model, Signature, StateSpec
from training.data import Series, static_codes
from training.network import Forecaster

ROWS = 64  # streams advanced together
STEPS = 128  # steps of a block


class TorchModel:
    """The torch module, advanced as an exported file is."""

    def __init__(self, network: Forecaster, manifest: Manifest) -> None:
        self.network, self.manifest = network, manifest
        self.signature = Signature(
            np.dtype("float64"),
            tuple(
                StateSpec(name, np.dtype(str(dtype).split(".")[1]), shape) for name, dtype, shape in network.state_specs
            ),
            None,
        )

    def advance(self, block: Block, state: Sequence[Array]) -> tuple[npt.NDArray[np.float32], list[Array]]:
        """Quantiles (N, H, Q) at the emitted positions, and each row's state after its last step."""
        device = next(self.network.parameters()).device
        arrays = (block.value, block.observed, block.time, block.length, block.emit)
        tensors = [torch.from_numpy(a).to(device) for a in arrays]
        static = torch.from_numpy(block.static).to(device) if self.manifest.static else None
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            quantiles, following = self.network(*tensors, static, [torch.from_numpy(s).to(device) for s in state])
        self.network.train(training)
        return quantiles.cpu().numpy(), [s.cpu().numpy() for s in following]


def state_bytes(network: Forecaster) -> int:
    """Bytes of one stream's state: what the daemon keeps, and writes, for each."""
    return sum(int(np.prod(shape)) * dtype.itemsize for _, dtype, shape in network.state_specs)


def fresh_state(model: Model, streams: int) -> list[Array]:
    """The state of streams never seen."""
    return [np.zeros((streams, *s.shape), s.dtype) for s in model.signature.states]


def block_of(
    series: Sequence[Series], begin: npt.NDArray[np.int64], length: npt.NDArray[np.int64], static: npt.NDArray[np.int64]
) -> Block:
    """Steps [begin, begin + length) of each series, padded to the longest; nothing emitted."""
    rows, steps, channels = len(series), int(length.max()), series[0].value.shape[1]
    value, observed = np.zeros((rows, steps, channels)), np.zeros((rows, steps, channels), np.float32)
    time = np.zeros((rows, steps), np.int64)
    for row, (s, a, n) in enumerate(zip(series, begin, length, strict=True)):
        value[row, :n], observed[row, :n], time[row, :n] = s.value[a : a + n], s.observed[a : a + n], s.time[a : a + n]
    return Block(value, observed, time, np.asarray(length, np.int64), np.empty(0, np.int64), static)


def forecasts(
    model: Model,
    series: Sequence[Series],
    begin: Sequence[int],
    origins: Sequence[npt.NDArray[np.int64]],
    steps: int = STEPS,
) -> Iterator[tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Forecast from every origin asked for, each stream a fresh start at its `begin`.

    origins   per series, step indices in increasing order, none before its begin
    steps     of a block; the forecasts are the same for any
    yields    (index of the series, origins of this piece, quantiles (n, H, Q)), each series' in order
    """
    codes = static_codes(series, model.manifest.static)
    for first in range(0, len(series), ROWS):
        rows = np.array([i for i in range(first, min(first + ROWS, len(series))) if len(origins[i])])
        state = fresh_state(model, len(rows))
        at = np.array([begin[i] for i in rows])
        last = np.array([origins[i][-1] + 1 for i in rows])
        while len(rows):
            length = np.minimum(last - at, steps)
            block = block_of([series[i] for i in rows], at, length, codes[rows])
            wanted = [
                origins[i][(origins[i] >= a) & (origins[i] < a + n)] for i, a, n in zip(rows, at, length, strict=True)
            ]
            width = block.time.shape[1]
            emit = np.concatenate([k * width + w - a for k, (w, a) in enumerate(zip(wanted, at, strict=True))])
            quantiles, state = model.advance(Block(**{**vars(block), "emit": emit.astype(np.int64)}), state)
            for i, w, q in zip(
                rows, wanted, np.split(quantiles, np.cumsum([len(w) for w in wanted])[:-1]), strict=True
            ):
                if len(w):
                    yield int(i), w, q
            at = at + length
            alive = at < last
            rows, at, last, state = rows[alive], at[alive], last[alive], [s[alive] for s in state]


def targets(series: Series, origins: npt.NDArray[np.int64], horizon: int) -> npt.NDArray[np.float64]:
    """What happened at leads 1…H after each origin (n, H), NaN where missing.

    Only the steps from the first origin to the last are read: a series may be long, and lie on disk.
    """
    begin, end = (int(origins.min()), int(origins.max()) + horizon + 1) if len(origins) else (0, horizon + 1)
    value, observed = series.value[begin:end, 0], series.observed[begin:end, 0]
    padded = np.full(end - begin, np.nan)
    padded[: len(value)] = np.where(observed > 0, value, np.nan)
    actual: npt.NDArray[np.float64] = padded[origins[:, None] - begin + np.arange(1, horizon + 1)]
    return actual
