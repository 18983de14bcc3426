"""Timing a model's calls changes nothing else about it."""

from streamer.adapters.timed_model import TimedModel


class Model:
    manifest, signature = object(), object()

    def advance(self, block, state):
        return "quantiles", [block, state]


def test_a_timed_model_is_the_model_and_tells_each_block_with_its_seconds():
    told, ticks = [], iter([10.0, 10.5, 20.0, 20.25])
    model = Model()
    timed = TimedModel(model, lambda block, seconds: told.append((block, seconds)), lambda: next(ticks))
    assert (timed.manifest, timed.signature) == (model.manifest, model.signature)
    assert timed.advance("a", "zeros") == ("quantiles", ["a", "zeros"])
    timed.advance("b", "zeros")
    assert told == [("a", 0.5), ("b", 0.25)]
