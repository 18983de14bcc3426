"""`kafka.options` in the names of the other library.

Whoever changes `kafka.client` expects the same file to go on working, and the checks of the start, `doctor`, `topics`
and `state` ask through kafka-python whatever the client is. So what both libraries have is known by both names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamer.errors import ConfigError

Value = str | int | float | bool
Options = dict[str, Value]

DIRECTORY = "kafka-python, which asks for topics and permissions with either client, has no such option"


@dataclass(frozen=True, slots=True)
class Pair:
    """One option in both libraries."""

    kafka_python: str
    librdkafka: str
    to_librdkafka: Callable[[Any], Value] = lambda value: value
    to_kafka_python: Callable[[Any], Value] = lambda value: value


def _upper(value: object) -> Value:
    return str(value).upper()


def _as_algorithm(check: object) -> Value:
    return "https" if check else "none"


def _as_check(algorithm: object) -> Value:
    return str(algorithm).lower() != "none"


PAIRS = (
    Pair("security_protocol", "security.protocol", _upper, _upper),
    Pair("sasl_mechanism", "sasl.mechanism", _upper, _upper),
    Pair("sasl_mechanism", "sasl.mechanisms", _upper, _upper),
    Pair("sasl_plain_username", "sasl.username"),
    Pair("sasl_plain_password", "sasl.password"),
    Pair("sasl_kerberos_service_name", "sasl.kerberos.service.name"),
    Pair("ssl_cafile", "ssl.ca.location"),
    Pair("ssl_certfile", "ssl.certificate.location"),
    Pair("ssl_keyfile", "ssl.key.location"),
    Pair("ssl_password", "ssl.key.password"),
    Pair("ssl_crlfile", "ssl.crl.location"),
    Pair("ssl_check_hostname", "ssl.endpoint.identification.algorithm", _as_algorithm, _as_check),
    Pair("client_id", "client.id"),
    Pair("request_timeout_ms", "socket.timeout.ms"),
    Pair("metadata_max_age_ms", "topic.metadata.refresh.interval.ms"),
    Pair("fetch_max_wait_ms", "fetch.wait.max.ms"),
    Pair("session_timeout_ms", "session.timeout.ms"),
    Pair("heartbeat_interval_ms", "heartbeat.interval.ms"),
    Pair("max_poll_interval_ms", "max.poll.interval.ms"),
)
ONLY_LIBRDKAFKA = {
    "enable.ssl.certificate.verification": "name the authority's file in ssl.ca.location",
    "ssl.ca.pem": "write it to a file and set ssl.ca.location",
    "ssl.certificate.pem": "write it to a file and set ssl.certificate.location",
    "ssl.key.pem": "write it to a file and set ssl.key.location",
    "ssl.keystore.location": "unpack it and set ssl.certificate.location and ssl.key.location",
    "sasl.oauthbearer.method": "use SCRAM or TLS certificates",
    "sasl.oauthbearer.config": "use SCRAM or TLS certificates",
}
UNDERSCORED = ("log_level",)  # librdkafka's names have dots, but for these


def as_librdkafka(options: Mapping[str, Value]) -> Options:
    """All options under librdkafka's names. Raises ConfigError for one that is given under two names."""
    pairs = {pair.kafka_python: pair for pair in reversed(PAIRS)}
    own = {"sasl.mechanisms": "sasl.mechanism"}
    found: dict[str, tuple[str, Value]] = {}
    for name, value in options.items():
        if name in ONLY_LIBRDKAFKA:
            raise ConfigError(f"kafka.options.{name}: {DIRECTORY}; {ONLY_LIBRDKAFKA[name]}")
        pair = pairs.get(name)
        theirs = pair.librdkafka if pair else own.get(name, _dotted(name))
        if theirs in found:
            raise ConfigError(f"kafka.options.{name}: this is {found[theirs][0]} once more; remove one of them")
        known = pair or next((pair for pair in PAIRS if pair.librdkafka == theirs), None)
        convert = known.to_librdkafka if known and (pair or known.to_librdkafka is _upper) else (lambda value: value)
        found[theirs] = (name, convert(value))
    return {theirs: value for theirs, (_, value) in found.items()}


def as_kafka_python(options: Mapping[str, Value]) -> Options:
    """Those options that kafka-python has too, under its names, from any spelling that `as_librdkafka` takes."""
    pairs = {pair.librdkafka: pair for pair in PAIRS}
    ours = as_librdkafka(options)
    return {pairs[name].kafka_python: pairs[name].to_kafka_python(v) for name, v in ours.items() if name in pairs}


def _dotted(name: str) -> str:
    return name if "." in name or name in UNDERSCORED else name.replace("_", ".")
