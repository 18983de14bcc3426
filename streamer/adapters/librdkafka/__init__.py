"""Kafka through librdkafka, a C library (the extra `fast`): `LibrdkafkaClient`, `LibrdkafkaLogReader`.

client.py        the daemon's verbs: start, poll, transact, …
membership.py    which partitions are ours, as the group's rebalances say
transactions.py  one attempt at a transaction, and what its end means
output.py        messages sent and confirmed
positions.py     committed positions, and where a partition begins
reader.py        changelogs and input read outside the group
columns.py       records as columns
options.py       settings as this library takes them
opening.py       clients opened, or refused with the option to mend
ending.py        clients ended within a limit
log_lines.py     the library's log lines as ours
failures.py      the library's errors, by what they mean to us
"""

from streamer.adapters.librdkafka.client import LibrdkafkaClient
from streamer.adapters.librdkafka.reader import LibrdkafkaLogReader

__all__ = ["LibrdkafkaClient", "LibrdkafkaLogReader"]
