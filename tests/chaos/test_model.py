"""Another model: streams start fresh with it, and while old and new processes run side by side nothing is mixed."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from kafka.consumer.fetcher import ConsumerRecord

from tests import models
from tests.chaos.members import finish, first_half, second_half, shared
from tests.chaos.oracle import Life
from tests.chaos.scene import WARM_UP_STEPS, Scene
from tests.chaos.workload import STEP_MS

pytestmark = pytest.mark.chaos

WARM_FROM_STEPS = 10
OLD, NEW = "gru-16@1", "gru-16@2"
FOREIGN = re.compile(r"event=snapshots_unused .*reason=other_model streams=(\d+)")


def new_model(made: Scene) -> Path:
    """A file with other weights, and a version that says so."""
    other = models.gru(step_ms=STEP_MS, horizon=4, seed=8, warmup_steps=WARM_UP_STEPS)
    return models.save(models.with_manifest(other, version="2"), made.folder / "new.onnx")


def lives_of(made: Scene, output: Sequence[ConsumerRecord]) -> dict[bytes, list[Life]]:
    """Each stream's lives as its forecasts tell them: the first of each is not warm."""
    files = {OLD: made.model, NEW: made.folder / "new.onnx"}
    lives: dict[bytes, list[Life]] = {}
    for record in output:
        forecast = json.loads(record.value)
        if not forecast["warm"]:
            begin = int(forecast["id"].rsplit("-", 1)[1]) if record.key in lives else 0
            lives.setdefault(record.key, []).append(Life(begin, files[forecast["model"]]))
    return lives


def test_another_model_starts_every_stream_fresh_where_the_old_one_ended(new_scene, say):
    with new_scene() as made:
        rest = first_half(made)
        new, committed = new_model(made), made.committed()
        lives = {r.key: [Life(0, made.model), Life(committed[r.partition], new)] for r in made.inputs()}
        daemon = second_half(made, rest, **{"model.path": str(new)})
        fresh = daemon.metric('streamer_state_resets_total{reason="other_model"}')
        verdict = made.verdict(lives)
        cold = sum(not json.loads(r.value)["warm"] for r in made.published())
        say("another model", f"fresh={fresh:.0f} not_warm={cold} {verdict}")
        assert verdict.is_clean, verdict
        assert fresh == made.workload.streams


def test_another_model_is_warm_from_the_input_where_it_is_to_be(new_scene, say):
    """Each stream's new state is what comes of so many records of its partition for each of the streams there."""
    with new_scene() as made:
        rest = first_half(made)
        new, committed = new_model(made), made.committed()
        partition = {record.key: record.partition for record in made.inputs()}
        streams = Counter(partition.values())
        back = {p: max(0, at - WARM_FROM_STEPS * streams[p]) for p, at in committed.items()}
        lives = {s: [Life(0, made.model), Life(committed[p], new, fed_silently=back[p])] for s, p in partition.items()}
        daemon = second_half(made, rest, **{"model.path": str(new), "state.warm_from_input_steps": WARM_FROM_STEPS})
        rebuilt = daemon.metric("streamer_streams_rebuilt_total")
        verdict = made.verdict(lives)
        say("another model, warm from the input", f"rebuilt={rebuilt:.0f} {verdict}")
        assert verdict.is_clean, verdict
        assert rebuilt >= made.workload.streams * 0.9


def test_a_rolling_change_of_models_mixes_nothing_and_settles(new_scene, say):
    """Old processes meet snapshots of the new model too: the first new one is killed, and what it had goes back."""
    with new_scene() as made, made.streaming() as feeding:
        new = {"model.path": str(new_model(made))}
        daemons = {name: made.start(f"{name}-old", static=False) for name in "abc"}
        old = list(daemons.values())
        shared(made, old)
        made.await_progress(feeding)
        for name in "abc":
            assert daemons[name].stop() == 0
            daemons[name] = made.start(f"{name}-new", static=False, **new)
            shared(made, list(daemons.values()))
            made.await_progress(feeding)
            if name == "a":
                daemons["a"].kill()
                shared(made, old[1:])
                made.await_progress(feeding)
                daemons["a"] = made.start("a-new", static=False, **new)
                shared(made, list(daemons.values()))
                made.await_progress(feeding)
        settled = made.output_ends()
        feeding.rest()
        made.await_done()
        lives = lives_of(made, made.published())
        again = sum(a.model == b.model for own in lives.values() for a, b in pairwise(own))
        met = {name: foreign_of(made, name) for name in ("a-new", "b-old", "c-old", "b-new", "c-new")}
        finish(
            made, feeding, "rolling change of models", say,
            f"foreign={met} lives={sum(map(len, lives.values()))} fresh_with_the_same_model={again}", lives,
        )  # fmt: skip
        assert {json.loads(r.value)["model"] for r in made.published(settled)} == {NEW}
        assert met["a-new"] > 0
        assert met["b-old"] + met["c-old"] > 0
        assert all(daemon.stop() == 0 for daemon in daemons.values())  # and none has ended before


def foreign_of(made: Scene, name: str) -> int:
    """How many snapshots of another model the processes of a name say they have met."""
    log = next(process.log for process in made.processes if process.name == name)
    return sum(map(int, FOREIGN.findall(log)))
