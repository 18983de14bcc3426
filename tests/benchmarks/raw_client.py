"""What librdkafka does alone: python -m tests.benchmarks.raw_client --bootstrap B --input T --output T --values FILE.

Consume every record of the input and produce, for each, one of the file's lines with the record's key to the same
partition of the output, and commit the positions with them every 100 ms: confluent-kafka's own classes with the
daemon's options, the shortest loop there is, and nothing else. With the lines that the daemon has published, its
throughput is a share of this.

--skip N   the clocks begin after so many records
--rounds   a batch of each partition at a time, as the daemon does: librdkafka then has no batch waiting, for whose turn
           it would ask without pause
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from streamer.adapters.librdkafka.options import BATCH_BYTES, consumer_options, producer_options
from streamer.adapters.librdkafka.output import OVERHEAD
from streamer.settings import KafkaSettings, OutputSettings

INTERVAL_SECONDS = 0.1
MAX_RECORDS = 10_000
IDLE_SECONDS = 5.0
FIRST_SECONDS = 60.0  # for the first record, which comes after the group's first rebalance


def run(
    consumer: Consumer, producer: Producer, output: str, values: list[bytes], skip: int, in_rounds: bool
) -> tuple[int, float, float]:
    """Records passed through until none comes any more, from the commit on that includes `skip`; seconds, CPU seconds.

    Clocks end with the last commit.
    """
    count, patience = 0, time.monotonic() + FIRST_SECONDS
    last: dict[tuple[str, int], Message] = {}  # of each partition in this transaction
    waiting: dict[int, int] = {}  # bytes of each partition's round
    marks: list[tuple[int, float, float]] = []  # records, clock and CPU at commits
    began = ended = due = 0.0
    producer.begin_transaction()
    while not began or time.monotonic() - ended < IDLE_SECONDS:
        messages = consumer.consume(MAX_RECORDS, 0) or consumer.consume(1, INTERVAL_SECONDS)
        if not messages and not began and time.monotonic() > patience:
            raise SystemExit(f"no record within {FIRST_SECONDS:g} s: is anything in the topic?")
        if messages and not began:
            ended = began = time.monotonic()
            due = began + INTERVAL_SECONDS
            marks.append((0, began, cpu_seconds()))
        for message in messages:
            number, value = message.partition(), values[count % len(values)]
            if in_rounds:
                waiting[number] = waiting.get(number, 0) + len(message.key()) + len(value) + OVERHEAD
                if waiting[number] > BATCH_BYTES:
                    producer.flush()
                    waiting = {number: len(message.key()) + len(value) + OVERHEAD}
            producer.produce(output, value, message.key(), number)
            last[message.topic(), number] = message
            count += 1
        if last and time.monotonic() >= due:
            positions = [TopicPartition(*at, message.offset() + 1) for at, message in last.items()]
            producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata())
            producer.commit_transaction()
            ended = time.monotonic()
            marks.append((count, ended, cpu_seconds()))
            due, last, waiting = ended + INTERVAL_SECONDS, {}, {}
            producer.begin_transaction()
    producer.abort_transaction()
    first = next(mark for mark in marks if mark[0] >= skip)
    records, seconds, cpu = (end - begin for begin, end in zip(first, marks[-1], strict=True))
    return int(records), seconds, cpu


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
    parser.add_argument("--values", type=Path, required=True)
    parser.add_argument("--compression", default="lz4")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--rounds", action="store_true")
    given = parser.parse_args(arguments)
    kafka = KafkaSettings(bootstrap_servers=given.bootstrap, group_id=given.group, client="confluent")
    output = OutputSettings(topic=given.output, compression=given.compression)
    producer = Producer(producer_options(kafka, output, given.group, BATCH_BYTES, {}))
    producer.init_transactions()
    consumer = Consumer(consumer_options(kafka, print) | {"enable.partition.eof": False})
    consumer.subscribe([given.input])
    try:
        values = given.values.read_bytes().splitlines()
        count, seconds, cpu = run(consumer, producer, given.output, values, given.skip, given.rounds)
    finally:
        consumer.close()
    speed = f"{count / seconds:,.0f} records/s, {1e6 * cpu / count:.1f} CPU seconds per million"
    print(f"{count} records in {seconds:.1f} s: {speed}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
