"""The broker fixture itself: other tests may only be trusted as far as it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition

from tests.integration import launcher as launching
from tests.integration.broker import STARTED, Cluster
from tests.integration.records import Record, committed_offsets, create_topic, end_offsets, produce, read_committed
from tests.integration.waiting import eventually


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True


def test_records_are_read_back_as_they_were_produced(bootstrap):
    topic = create_topic(bootstrap, "input", partitions=2)
    produce(
        bootstrap,
        topic,
        [Record(b"b", key=b"k", partition=1, headers=[("h", b"1")], timestamp_ms=1_700_000_000_000), Record(b"a")],
    )
    first, second = read_committed(bootstrap, topic)
    assert (first.partition, first.key, first.value) == (0, None, b"a")
    assert (second.partition, second.key, second.value, second.timestamp) == (1, b"k", b"b", 1_700_000_000_000)
    assert list(second.headers) == [("h", b"1")]


def test_records_of_an_aborted_transaction_are_not_read(bootstrap):
    topic = create_topic(bootstrap)
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
    producer.init_transactions()
    for value, end in ((b"kept", producer.commit_transaction), (b"dropped", producer.abort_transaction)):
        producer.begin_transaction()
        producer.send(topic, value, partition=0)
        producer.flush()
        end()
    producer.close()
    assert [record.value for record in read_committed(bootstrap, topic)] == [b"kept"]


def test_a_group_that_never_committed_has_no_offsets(bootstrap):
    assert committed_offsets(bootstrap, "never-seen", create_topic(bootstrap)) == {}


def test_a_broker_comes_back_on_its_port_with_its_data(make_cluster):
    cluster = make_cluster()
    cluster.start()
    (broker,) = cluster.brokers
    bootstrap = cluster.bootstrap
    topic = create_topic(bootstrap)
    produce(bootstrap, topic, [Record(b"0")])
    for value, end in ((b"1", broker.stop), (b"2", broker.kill)):
        end()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", broker.client_port))
        broker.start()
        produce(bootstrap, topic, [Record(value)])
    assert cluster.bootstrap == bootstrap
    assert [record.value for record in read_committed(bootstrap, topic)] == [b"0", b"1", b"2"]


def test_three_brokers_go_on_without_one_of_them(make_cluster):
    cluster = make_cluster(brokers=3, settings={"message.max.bytes": 2_000_000})
    cluster.start()
    topic = create_topic(cluster.bootstrap, partitions=3)
    cluster.brokers[0].kill()
    produce(cluster.bootstrap, topic, [Record(b"x" * 1_500_000, partition=number) for number in range(3)])
    cluster.brokers[0].start()
    assert [record.partition for record in read_committed(cluster.bootstrap, topic)] == [0, 1, 2]


def test_clients_follow_the_advertised_address(make_cluster):
    cluster = make_cluster()
    (broker,) = cluster.brokers
    connections = 0
    proxy = socket.create_server(("127.0.0.1", 0))

    def forward() -> None:
        nonlocal connections
        while True:
            try:
                client, _ = proxy.accept()
            except OSError:
                return  # the test closed it
            connections += 1
            server = socket.create_connection(("127.0.0.1", broker.client_port))
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=pump, args=(source, target), daemon=True).start()

    thread = threading.Thread(target=forward)
    thread.start()
    broker.advertised = f"127.0.0.1:{proxy.getsockname()[1]}"
    cluster.start()
    topic = create_topic(broker.address)  # only the first contact goes to the broker itself
    produce(broker.address, topic, [Record(b"1")])
    proxy.shutdown(socket.SHUT_RDWR)
    proxy.close()
    thread.join()
    assert connections > 0
    assert cluster.bootstrap == broker.advertised


def pump(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        while data := source.recv(65536):
            target.sendall(data)


INTERRUPTED_RUN = """
import sys
from tests.integration.broker import Cluster
from tests.integration.test_broker import PretendedKafka
cluster = Cluster(PretendedKafka())
cluster.start()
print(cluster.folder, cluster.brokers[0].process.pid, flush=True)
sys.stdin.read()
"""


class PretendedKafka:
    """A launcher of processes that say they are brokers and stay."""

    def launch(self, folder: Path, cluster_id: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(["sh", "-c", f"echo {STARTED}; exec sleep 600"], cwd=folder, stdout=output)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_behind(ending):
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_RUN],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with run:
        folder, pid = run.stdout.readline().split()
        assert alive(int(pid))
        run.send_signal(ending)
    eventually(lambda: not alive(int(pid)), "the broker's process ended")
    eventually(lambda: not Path(folder).exists(), "the broker's folder removed")


def test_a_closed_cluster_leaves_nothing_behind():
    cluster = Cluster(PretendedKafka(), brokers=3)
    cluster.start()
    pids = [broker.process.pid for broker in cluster.brokers]
    assert all(map(alive, pids))
    cluster.close()
    assert not any(map(alive, pids))
    assert not cluster.folder.exists()


def test_a_broker_that_cannot_start_says_why(make_cluster):
    cluster = make_cluster(settings={"log.retention.ms": "soon"})
    with pytest.raises(AssertionError, match=r"Invalid value soon for configuration log\.retention\.ms"):
        cluster.start()


def test_a_machine_without_any_way_to_run_kafka_is_told_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(launching.KafkaUnavailableError, match=r"(?s)no `java`.*Docker.*Install.*TIDECAST"):
        launching.find_launcher()


def test_jars_fetched_halfway_are_not_taken_for_whole(monkeypatch, tmp_path):
    def fetch_half(_pom: Path, folder: Path) -> None:
        folder.mkdir()
        raise launching.KafkaUnavailableError("cut short")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(launching, "fetch_jars", fetch_half)
    with pytest.raises(launching.KafkaUnavailableError, match="cut short"):
        launching.kafka_jars()
    assert list((tmp_path / "tidecast").iterdir()) == []


def test_end_offsets_count_every_record(bootstrap):
    topic = create_topic(bootstrap)
    produce(bootstrap, topic, [Record(b"1"), Record(b"2")])
    assert list(end_offsets(bootstrap, [TopicPartition(topic, 0)]).values()) == [2]
