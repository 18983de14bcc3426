"""The client that `kafka.client` names."""

import sys

import pytest

from streamer.__main__ import _kafka
from streamer.errors import ConfigError
from streamer.settings import KafkaSettings, Settings


def test_a_client_that_is_not_installed_is_named_with_what_installs_it(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("streamer.adapters.librdkafka")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"^kafka\.client: found 'confluent'.*`pip install '\.\[fast\]'` in a clone"):
        _kafka(Settings(kafka=KafkaSettings(client="confluent")))
