"""Kafka through kafka-python, a pure Python client: `KafkaPythonClient`, `KafkaPythonLogReader`, and topics made.

client.py        the daemon's verbs: start, poll, transact, …
membership.py    which partitions are ours, as the group's rebalances say
transactions.py  one attempt at a transaction, and what its end means
producer.py      the library's producer with a limit on every wait
output.py        messages sent and confirmed
positions.py     committed positions, where a partition begins, and how far it is from its end
reader.py        changelogs and input read outside the group
cluster.py       what a start asks of the brokers
columns.py       records as columns
metadata.py      what is noted with a position
topics.py        topics checked and created
options.py       settings as this library takes them
connecting.py    clients opened, or refused with the setting to mend
"""

from streamer.adapters.kafka_python.client import KafkaPythonClient
from streamer.adapters.kafka_python.reader import KafkaPythonLogReader
from streamer.adapters.kafka_python.topics import create_topics, ensure_changelogs

__all__ = ["KafkaPythonClient", "KafkaPythonLogReader", "create_topics", "ensure_changelogs"]
