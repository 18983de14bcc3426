"""Records as they are published: forecasts as JSON, dead letters with their reason in headers."""

from collections.abc import Iterator

import msgspec
import numpy as np
import orjson

from streamer.core.contract import Manifest
from streamer.core.decoding import Rejection
from streamer.core.events import Headers, Records
from streamer.core.forecasts import Forecasts

DEAD_LETTER_HEADER = "__streams.errors."


class ForecastEncoder:
    """Encodes the forecasts of one model, numbers as float32 in shortest round-trip form, NaN as null."""

    def __init__(self, manifest: Manifest) -> None:
        step = "null" if manifest.step_ms is None else str(manifest.step_ms)
        model = orjson.dumps(manifest.model_id).decode()
        self._levels = [f'"{level!r}":' for level in manifest.levels]
        self._middle = f',"step_ms":{step},"model":{model},"warm":'
        self._warm = ("false", "true")

    def encode(self, forecasts: Forecasts) -> list[bytes]:
        """One JSON object per accepted event, in record order."""
        if not len(forecasts):
            return []
        topic, number = forecasts.records.partition
        prefix = f'{{"id":{orjson.dumps(topic).decode()[:-1]}-{number}-'
        offsets = forecasts.records.offsets
        middle, warm = self._middle, self._warm
        return [
            f'{prefix}{offsets[i]}","stream":{stream},"origin":{origin}{middle}{warm[is_warm]},"quantiles":{{{numbers}}}}}'.encode()
            for i, stream, origin, is_warm, numbers in zip(
                forecasts.index.tolist(),
                _json_strings(forecasts.stream),
                forecasts.origin.tolist(),
                forecasts.warm.tolist(),
                self._numbers(forecasts),
                strict=True,
            )
        ]

    def _numbers(self, forecasts: Forecasts) -> Iterator[str]:
        """Each forecast's levels and numbers; one call writes the numbers of all, then the text is cut."""
        by_level = np.ascontiguousarray(forecasts.quantiles.transpose(0, 2, 1))
        text = orjson.dumps(by_level, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        levels = self._levels
        for forecast in text[3:-3].split("]],[["):
            yield ",".join([f"{level}[{row}]" for level, row in zip(levels, forecast.split("],["), strict=True)])


def _json_strings(strings: list[str]) -> list[str]:
    """Each string as a JSON string; JSON has no bare line feeds, so one call writes all."""
    return msgspec.json.Encoder().encode_lines(strings).decode().split("\n")[:-1]


def dead_letter_headers(rejection: Rejection, records: Records) -> Headers:
    """The record's own headers, then why and where it was refused."""
    topic, number = records.partition
    why = {
        "exception": rejection.reason,
        "message": rejection.message,
        "topic": topic,
        "partition": str(number),
        "offset": str(records.offsets[rejection.index]),
    }
    own = list(records.headers(rejection.index))
    return own + [(DEAD_LETTER_HEADER + name, text.encode(errors="replace")) for name, text in why.items()]
