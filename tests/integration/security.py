"""A broker that is careful with its clients: TLS, client certificates, SASL; and the certificates for it."""

import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import UserScramCredentialUpsertion

from tests.integration.broker import Cluster, free_ports

USER, PASSWORD, KEY_PASSWORD = "tidecast", "canary-password-5f31", "canary-key-77ac"
PROTOCOLS = {"TLS": "SSL", "MTLS": "SSL", "SASLTLS": "SASL_SSL", "SASLPLAIN": "SASL_PLAINTEXT"}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
LOGIN = "org.apache.kafka.common.security"
DAYS = "2"


@dataclass(frozen=True)
class Certificates:
    """An authority, and what it issued: PEM files."""

    folder: Path
    authority: Path
    broker: Path
    client: Path
    client_key: Path


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


def make_certificates(folder: Path) -> Certificates:
    """An authority, a certificate of a broker at 127.0.0.1 with its key, and a client's, whose key has a password."""
    folder.mkdir()
    authority, broker = folder / "authority.pem", folder / "broker.pem"
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", DAYS)
    openssl(*new, "-subj", "/CN=tests", "-out", str(authority), "-keyout", f"{folder}/authority.key")
    signed = (*new, "-CA", str(authority), "-CAkey", f"{folder}/authority.key", "-addext", "basicConstraints=CA:FALSE")
    for name in ("broker", "client"):
        files = ("-out", f"{folder}/{name}.crt", "-keyout", f"{folder}/{name}.key")
        openssl(*signed, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *files)
    broker.write_text((folder / "broker.key").read_text() + (folder / "broker.crt").read_text())
    locked = folder / "client-locked.key"
    secret = ("-passout", f"pass:{KEY_PASSWORD}", "-out", str(locked))
    openssl("pkcs8", "-topk8", "-in", f"{folder}/client.key", *secret)
    return Certificates(folder, authority, broker, folder / "client.crt", locked)


class CarefulBroker:
    """One broker with a listener for each way of `PROTOCOLS`, beside the open ones that tests use themselves.

    open       host:port without TLS or SASL
    addresses  host:port by the listener's name
    """

    def __init__(self, cluster: Cluster, certificates: Certificates) -> None:
        [broker] = cluster.brokers
        taken = {broker.client_port, broker.internal_port, broker.controller_port}  # though nothing listens there yet
        ports = [port for port in free_ports(len(PROTOCOLS) + len(taken)) if port not in taken]
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(PROTOCOLS, ports, strict=False)}
        self.open = broker.address
        own = broker.addresses()
        extra = "".join(f",{name}://{address}" for name, address in self.addresses.items())
        ways = "".join(f",{name}:{protocol}" for name, protocol in PROTOCOLS.items())
        broker.settings |= {
            "listeners": own["listeners"] + extra,
            "advertised.listeners": own["advertised.listeners"] + extra,
            "listener.security.protocol.map": cluster.settings["listener.security.protocol.map"] + ways,
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "listener.name.mtls.ssl.client.auth": "required",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(certificates.broker),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(certificates.authority),
        }
        for name in ("sasltls", "saslplain"):
            plain = f'{LOGIN}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            broker.settings[f"listener.name.{name}.plain.sasl.jaas.config"] = plain
            for mechanism in MECHANISMS[1:]:
                scram = f"{LOGIN}.scram.ScramLoginModule required;"
                broker.settings[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = scram
        cluster.start()
        self._add_user()

    def _add_user(self) -> None:
        with closing(KafkaAdminClient(bootstrap_servers=self.open)) as admin:
            for mechanism in MECHANISMS[1:]:
                refused = admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, mechanism, PASSWORD)])
                assert not any(refused.values()), refused
