"""The model, and the memory that its streams take."""

from collections.abc import Iterator

from streamer.doctor.facts import ModelFacts
from streamer.doctor.findings import Finding, amount, ok, warn

ID_BYTES = 350  # a stream's id, twice in Python's own structures


def check_model(model: ModelFacts) -> Iterator[Finding]:
    """What was loaded: reading it has shown that it keeps the contract."""
    yield ok(
        "model.path",
        f"{model.model_id}, fingerprint {model.fingerprint[:12]}, keeps the contract and advances an empty stream on "
        f"{', '.join(model.providers)}; a snapshot has {amount(model.snapshot_bytes)}",
    )


def check_memory(model: ModelFacts, max_streams: int, memory_bytes: int) -> Iterator[Finding]:
    """What `state.max_streams` streams would take of this machine's memory."""
    each = model.bytes_per_stream + ID_BYTES
    found = (
        f"{max_streams:,} streams of {each:,} bytes each (state {model.bytes_per_stream:,}) would take "
        f"{amount(max_streams * each)}; this machine has {amount(memory_bytes)}"
    )
    if max_streams * each > 0.8 * memory_bytes:
        fitting = int(0.8 * memory_bytes / each)
        yield warn("state.max_streams", found, f"set it to {fitting:,} or less, or spread the streams over processes")
    else:
        yield ok("state.max_streams", found)
