"""What both Kafka clients share, without the library of either.

cluster.py         what is asked of the brokers before a client starts, and now and then
letters.py         dead letters cut to what their topic takes
producer_state.py  what may be done with a transactional producer
spelling.py        `kafka.options` in the names of the other library
watch.py           the input held against what was seen of it before
wording.py         refusals as an operator reads them
"""
