"""What the model does: which one it is, and its calls."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, Info

from streamer.core.contract import Block, Manifest

INFERENCE_BUCKETS = (
    0.0002,
    0.0005,
    0.001,
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    1.0,
)  # fine around one block's 5 ms
ROW_BUCKETS = (1, 4, 16, 64, 256, 1_024, 4_096, 16_384)
STEP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ModelMetrics:
    """The model's identity, and the size and time of its blocks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter("streamer_model_calls_total", "Blocks advanced, one model call each.", registry=registry)
        self._inference = Histogram(
            "streamer_inference_seconds",
            "Wall time of one block through the model, host-device copies included.",
            buckets=INFERENCE_BUCKETS,
            registry=registry,
        )
        self._block_rows = Histogram(
            "streamer_block_rows", "Streams in one block (B).", buckets=ROW_BUCKETS, registry=registry
        )
        self._block_steps = Histogram(
            "streamer_block_steps", "Steps of a block's longest row (T).", buckets=STEP_BUCKETS, registry=registry
        )
        self._steps = Counter(
            "streamer_model_steps_total", "Steps streams advanced by, missing steps included.", registry=registry
        )
        self._padding_steps = Counter(
            "streamer_padding_steps_total", "Steps computed in blocks only to fill shorter rows.", registry=registry
        )
        self._model = Info("streamer_model", "The model that forecasts.", registry=registry)

    def serving(self, manifest: Manifest, fingerprint: str, providers: Sequence[str]) -> None:
        """The model was loaded."""
        self._model.info(
            {
                "name": manifest.name,
                "version": manifest.version,
                "fingerprint": fingerprint,
                "providers": ",".join(providers),
                "cell": manifest.cell,
                "horizon": str(manifest.horizon),
            }
        )

    def block_advanced(self, block: Block, seconds: float) -> None:
        """One model call advanced a block."""
        rows, steps = block.time.shape
        real = int(block.length.sum())
        self._calls.inc()
        self._inference.observe(seconds)
        self._block_rows.observe(rows)
        self._block_steps.observe(steps)
        self._steps.inc(real)
        self._padding_steps.inc(rows * steps - real)
