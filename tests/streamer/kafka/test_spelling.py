"""Options of one Kafka library in the names of the other."""

import pytest

from streamer.errors import ConfigError
from streamer.kafka.spelling import as_kafka_python, as_librdkafka

KAFKA_PYTHON = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": "u",
    "sasl_plain_password": "p",
    "ssl_cafile": "ca.pem",
    "ssl_check_hostname": False,
    "session_timeout_ms": 10_000,
}
LIBRDKAFKA = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "u",
    "sasl.password": "p",
    "ssl.ca.location": "ca.pem",
    "ssl.endpoint.identification.algorithm": "none",
    "session.timeout.ms": 10_000,
}


def test_what_both_have_is_known_by_both_names():
    assert as_librdkafka(KAFKA_PYTHON) == as_librdkafka(LIBRDKAFKA) == LIBRDKAFKA
    assert as_kafka_python(KAFKA_PYTHON) == as_kafka_python(LIBRDKAFKA) == KAFKA_PYTHON


def test_other_names_are_passed_on_with_dots_and_kept_from_kafka_python():
    assert as_librdkafka({"fetch_min_bytes": 2, "log_level": 7}) == {"fetch.min.bytes": 2, "log_level": 7}
    assert as_kafka_python({"queued.max.messages.kbytes": 2}) == {}


def test_lower_case_protocols_and_the_other_name_of_a_mechanism_are_understood():
    options = {"security.protocol": "sasl_ssl", "sasl.mechanisms": "plain"}
    assert as_kafka_python(options) == {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"session_timeout_ms": 1, "session.timeout.ms": 1}, r"session\.timeout\.ms: this is session_timeout_ms once"),
        ({"ssl.key.pem": "x"}, r"ssl\.key\.pem: .*set ssl\.key\.location"),
    ],
)
def test_what_cannot_be_said_to_both_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        as_librdkafka(options)
