"""Tidecast's daemon: Kafka event streams in, probabilistic forecasts out."""

from importlib.metadata import version

__version__ = version("tidecast")
