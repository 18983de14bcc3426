"""The daemon's settings: `options` has every one; `loading` takes them from a YAML file, the environment and flags."""

from streamer.settings.loading import SCHEMA, flags_help, load_settings
from streamer.settings.options import (
    DeliverySettings,
    HttpSettings,
    InputFields,
    InputSettings,
    KafkaSettings,
    ModelSettings,
    OutputSettings,
    Settings,
    StateSettings,
)

__all__ = [
    "SCHEMA",
    "DeliverySettings",
    "HttpSettings",
    "InputFields",
    "InputSettings",
    "KafkaSettings",
    "ModelSettings",
    "OutputSettings",
    "Settings",
    "StateSettings",
    "flags_help",
    "load_settings",
]
