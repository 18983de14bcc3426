"""The demo: a year of real weather, packed with a model trained on its first eight months. README.md has the source."""

from pathlib import Path

EVENTS_PATH = Path(__file__).with_name("weather.jsonl.gz")
MODEL_PATH = Path(__file__).with_name("model.onnx")

UNITS = {  # variable: unit, as the source gives them
    "temp": "°F",
    "dewp": "°F",
    "humid": "%",
    "wind_speed": "mph",
    "pressure": "hPa",
    "visib": "miles",
}
