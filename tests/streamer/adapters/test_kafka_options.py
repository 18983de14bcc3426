"""What the client library is given: options that would fail later, in a traceback, are refused first."""

import pytest

from streamer.adapters.kafka_python.options import consumer_options
from streamer.errors import ConfigError
from streamer.settings import KafkaSettings


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile"])
def test_a_file_that_is_not_there_is_refused_by_its_options_name_and_not_shown(tmp_path, name):
    for wrong in (tmp_path / "absent.pem", tmp_path):
        with pytest.raises(ConfigError) as refused:
            consumer_options(KafkaSettings(options={name: str(wrong)}))
        assert str(refused.value) == f"kafka.options.{name}: found ***, which is not a file here; name a PEM file"


def test_a_file_that_is_there_is_passed_on(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("")
    assert consumer_options(KafkaSettings(options={"ssl_cafile": str(path)}))["ssl_cafile"] == str(path)
