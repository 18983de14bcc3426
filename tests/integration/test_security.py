"""TLS, client certificates and SASL with both Kafka clients on a real broker, and no secret anywhere it can be read."""

import json
import socket
import uuid

import pytest

from tests import models
from tests.drive import event
from tests.integration.broker import Cluster
from tests.integration.commands import streamer
from tests.integration.daemon import exit_of, running
from tests.integration.records import Record, create_topic, produce, read_committed
from tests.integration.security import (
    KEY_PASSWORD,
    PASSWORD,
    PROTOCOLS,
    USER,
    CarefulBroker,
    Certificates,
    make_certificates,
)

WRONG = "canary-wrong-c3a9"
SECRETS = (PASSWORD, KEY_PASSWORD, WRONG)
IMPATIENT = {"kafka.connect_timeout_seconds": 3}
CLIENTS = ("kafka-python", "confluent")
SASL_NAMES = {
    "kafka-python": ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password"),
    "confluent": ("sasl.mechanism", "sasl.username", "sasl.password"),
}
TLS_NAMES = {
    "kafka-python": ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password"),
    "confluent": ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.key.password"),
}
WAYS = [
    ("TLS", ""),
    ("MTLS", ""),
    ("SASLPLAIN", "SCRAM-SHA-256"),
    ("SASLTLS", "PLAIN"),
    ("SASLTLS", "SCRAM-SHA-256"),
    ("SASLTLS", "SCRAM-SHA-512"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def broker(launcher, certificates):
    cluster = Cluster(launcher)
    try:
        yield CarefulBroker(cluster, certificates)
    finally:
        cluster.close()


@pytest.fixture
def settings(broker, tmp_path):
    """Topics and a group of their own; how to reach them is for `reaching` to say."""
    return {
        "model.path": str(models.save(models.echo(horizon=2), tmp_path / "echo.onnx")),
        "kafka.group_id": f"group-{uuid.uuid4().hex[:8]}",
        "input.topics": [create_topic(broker.open, "events", 1)],
        "output.topic": create_topic(broker.open, "forecasts", 1),
        "kafka.connect_timeout_seconds": 20,
    }


def reaching(broker, certificates, client, way, mechanism, password=PASSWORD, authority=None):
    """The settings that reach the broker this way."""
    protocol = "security_protocol" if client == "kafka-python" else "security.protocol"
    options = {protocol: PROTOCOLS[way]}
    if "TLS" in way:
        authority_name, certificate, key, key_password = TLS_NAMES[client]
        options[authority_name] = str(authority or certificates.authority)
        if way == "MTLS":
            options |= {certificate: str(certificates.client), key: str(certificates.client_key)}
            options[key_password] = KEY_PASSWORD
    if mechanism:
        options |= dict(zip(SASL_NAMES[client], (mechanism, USER, password), strict=True))
    return {"kafka.client": client, "kafka.bootstrap_servers": broker.addresses[way], "kafka.options": options}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("way", "mechanism"), WAYS)
def test_events_are_forecast_over_a_secured_listener(broker, certificates, settings, tmp_path, client, way, mechanism):
    settings |= reaching(broker, certificates, client, way, mechanism)
    produce(broker.open, settings["input.topics"][0], [Record(json.dumps(event("a", h)).encode()) for h in (1, 2)])
    with running(tmp_path, settings) as daemon:
        daemon.await_consumed(2)
        pages = [daemon.get(page) for page in ("/metrics", "/healthz", "/readyz")]
        assert daemon.stop() == 0
        shown = "".join(map(str, [daemon.log, *pages]))
    assert len(read_committed(broker.open, settings["output.topic"])) == 2
    assert [secret for secret in (*SECRETS, str(certificates.client_key)) if secret in shown] == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_ends_it_with_2_and_is_not_shown(broker, certificates, settings, tmp_path, client, mechanism):
    settings |= reaching(broker, certificates, client, "SASLTLS", mechanism, password=WRONG)
    status, log = exit_of(tmp_path, settings | IMPATIENT)
    assert (status, "Traceback" in log) == (2, False), log
    assert "kafka.options" in log
    assert [secret for secret in SECRETS if secret in log] == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "way",
    ["another authority", "no certificate of its own", "a wrong password of its key", "TLS where the broker has none"],
)
def test_a_broker_that_cannot_be_trusted_or_does_not_trust_us_ends_it_with_2(
    broker, certificates, settings, tmp_path, client, way
):
    listener = "MTLS" if way != "another authority" else "TLS"
    other = make_certificates(tmp_path / "other") if way == "another authority" else certificates
    given = reaching(broker, certificates, client, listener, "", authority=other.authority)
    _, certificate, key, key_password = TLS_NAMES[client]
    if way == "no certificate of its own":
        for name in (certificate, key, key_password):
            del given["kafka.options"][name]
    if way == "a wrong password of its key":
        given["kafka.options"][key_password] = WRONG
    if way == "TLS where the broker has none":
        given["kafka.bootstrap_servers"] = broker.open
    status, log = exit_of(tmp_path, settings | given | IMPATIENT)
    assert (status, "Traceback" in log) == (2, False), log
    assert "kafka." in log
    assert [secret for secret in SECRETS if secret in log] == []


@pytest.mark.parametrize(
    ("client", "command"),
    [
        ("kafka-python", "doctor"),
        ("confluent", "doctor"),
        ("confluent", "topics create"),
        ("confluent", "state show a"),
    ],
)
def test_a_command_works_and_shows_no_secret(broker, certificates, settings, capsys, client, command):
    settings |= reaching(broker, certificates, client, "SASLTLS", "SCRAM-SHA-256")
    status, text = streamer(capsys, settings, *command.split())
    assert status == (1 if command == "state show a" else 0), text  # nothing is saved yet
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("command", ["doctor", "topics create", "state show a", "state reset --yes"])
def test_a_command_that_is_refused_shows_no_secret(broker, certificates, settings, capsys, command):
    settings |= reaching(broker, certificates, "kafka-python", "SASLTLS", "PLAIN", WRONG)
    status, text = streamer(capsys, settings | IMPATIENT, *command.split())
    assert (status in (1, 2), "Traceback" in text, "kafka.options" in text) == (True, False, True), text
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize(("host", "answers"), [(None, False), ("0.0.0.0", True)])
def test_metrics_and_probes_are_for_loopback_alone_unless_told_otherwise(broker, settings, tmp_path, host, answers):
    settings |= {"kafka.bootstrap_servers": broker.open} | ({"http.host": host} if host else {})
    with running(tmp_path, settings) as daemon:
        daemon.await_ready()
        with socket.socket() as another:  # 127.0.0.2 is this machine, too, but not the address that was bound
            assert (another.connect_ex(("127.0.0.2", daemon.port)) == 0) == answers
