"""A model whose forecasts tell the whole history of their stream, in integers: exact in any batching, and fast.

Each step mixes its time, its value and the static codes into a chain; an event lost, repeated or out of order, or a
state that is not the one it should be, changes every forecast from there on.
"""

from collections.abc import Sequence

import numpy as np

from streamer.core.contract import Array, Block, Manifest, Signature, StateSpec

HOUR_MS = 3_600_000
MODULUS = 1 << 24  # exact in float32
FINGERPRINT, OTHER_FINGERPRINT = "ab" * 32, "cd" * 32
POISON = -999  # a value that breaks the state
SITES = ("north", "south")


class Chain:
    """`streamer.core.contract.Model`. State: `chain` (), `last` (2,) the last time and the number of steps."""

    manifest = Manifest(
        contract=1, name="chain", version="1", cell="none", grid="regular", step_ms=HOUR_MS, horizon=1, levels=(0.5,),
        static={"site": SITES}, warmup_steps=2,
    )  # fmt: skip
    states = (StateSpec("chain", np.dtype(np.int64), ()), StateSpec("last", np.dtype(np.float64), (2,)))
    signature = Signature(np.dtype(np.float32), states, None)

    def advance(self, block: Block, state: Sequence[Array]) -> tuple[np.ndarray, list[Array]]:
        chain, last = state[0].copy(), state[1].copy()
        seen = np.zeros(block.time.shape, np.int64)
        for t in range(block.time.shape[1]):
            real = t < block.length
            told = block.value[:, t, 0].astype(np.int64) + 7 * block.observed[:, t, 0].astype(np.int64)
            mixed = (chain * 31_337 + block.time[:, t] // HOUR_MS * 101 + told * 17 + block.static[:, 0] + 1) % MODULUS
            chain = np.where(real, mixed, chain)
            last[real, 0] = block.time[real, t]
            last[real, 1] += 1
            last[real & (block.value[:, t, 0] == POISON), 1] = np.nan
            seen[:, t] = chain
        return seen.ravel()[block.emit].astype(np.float32).reshape(-1, 1, 1), [chain, last]


class OtherChain(Chain):
    """The next version of it, which calculates alike: what differs is how much history a state has."""

    manifest = Chain.manifest.model_copy(update={"version": "2"})
