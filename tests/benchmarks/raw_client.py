"""What librdkafka does alone: python -m tests.benchmarks.raw_client --bootstrap B --input T --output T --bytes N.

Consume every record of the input and produce, for each, a value of N bytes (made beforehand, of digits as a forecast
has them) to the same partition of the output, in one transaction with the positions every 100 ms: the same client, the
same options and the same calls as the daemon's, and nothing else. The daemon's throughput is a share of this.
"""

import argparse
import random
import resource
import sys
import time
from collections.abc import Sequence

from streamer.adapters.kafka_python.cluster import KafkaPythonCluster
from streamer.adapters.librdkafka import LibrdkafkaClient
from streamer.core.events import Partition
from streamer.delivery import Messages, Position
from streamer.settings import InputSettings, KafkaSettings, OutputSettings

INTERVAL_SECONDS = 0.1
MAX_RECORDS = 10_000
IDLE_SECONDS = 5.0
VALUES = 1_000  # different ones, so that compression finds no more to do than in forecasts


def values_of(size: int) -> list[bytes]:
    """Values of this many bytes, as compressible as numbers in JSON are."""
    chance = random.Random(1)  # the same bytes in every run

    def value() -> bytes:
        text = ",".join(f"{chance.uniform(0, 100):.4f}" for _ in range(size // 7 + 1))
        return text[:size].encode()

    return [value() for _ in range(VALUES)]


def run(client: LibrdkafkaClient, output: str, values: list[bytes]) -> tuple[int, float, float]:
    """Records passed through until none comes any more; the seconds and CPU seconds from the first to the last."""
    count, waiting = 0, 0
    began = last = cpu = 0.0
    positions: dict[Partition, Position] = {}
    messages: list[Messages] = []
    due = time.monotonic()
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < IDLE_SECONDS:
        batch = client.poll(INTERVAL_SECONDS, MAX_RECORDS)
        if change := client.rebalance():
            for partition in change.assigned:
                client.resume(partition, client.starting_offset(partition))
            idle_since = time.monotonic()
        for records in batch:
            if not began:
                began, cpu = time.monotonic(), cpu_seconds()
            at = Partition(output, records.partition.number)
            messages.append(Messages(at, records.keys, [values[o % VALUES] for o in records.offsets]))
            positions[records.partition] = Position(records.offsets[-1] + 1, "")
            waiting += len(records)
        if waiting and time.monotonic() >= due:
            client.transact(messages, positions)
            count, waiting = count + waiting, 0
            last = idle_since = time.monotonic()
            due, messages, positions = last + INTERVAL_SECONDS, [], {}
    return count, last - began, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """CPU time of this process, librdkafka's threads included."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Consume and transactional produce, nothing else.")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--input", default="events")
    parser.add_argument("--output", default="forecasts")
    parser.add_argument("--group", default=f"raw-{time.time_ns()}")
    parser.add_argument("--bytes", type=int, default=600)
    parser.add_argument("--compression", default="lz4")
    given = parser.parse_args(arguments)
    kafka = KafkaSettings(bootstrap_servers=given.bootstrap, group_id=given.group, client="confluent")
    events, output = (
        InputSettings(topics=[given.input]),
        OutputSettings(topic=given.output, compression=given.compression),
    )
    client = LibrdkafkaClient(kafka, events, output, KafkaPythonCluster(kafka, events, output))
    client.start(lambda: None)
    try:
        count, seconds, cpu = run(client, given.output, values_of(given.bytes))
    finally:
        client.close()
    if not count:
        print(f"no record came from {given.input!r}", file=sys.stderr)
        return 1
    speed = f"{count / seconds:,.0f} records/s, {1e6 * cpu / count:.1f} CPU seconds per million"
    print(f"{count} records in {seconds:.1f} s: {speed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
