"""Kafka through kafka-python, a pure Python client: `KafkaPythonClient`, and `create_topics` for the command line.

client.py       the daemon's verbs: start, poll, commit, …
membership.py   which partitions are ours, as the group's rebalances say
positions.py    where a partition begins, and how far it is from its end
output.py       messages sent and confirmed; dead letters cut where their topic refuses them
topics.py       topics checked and created
options.py      settings as this library takes them
"""

from streamer.adapters.kafka_python.client import KafkaPythonClient
from streamer.adapters.kafka_python.topics import create_topics

__all__ = ["KafkaPythonClient", "create_topics"]
