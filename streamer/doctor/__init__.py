"""`streamer doctor`: everything that can be checked before the daemon runs, with what to do about it.

facts.py      what is known of the model, the cluster, its topics, the group and the recent input
gathering.py  the model's sizes and the sample; the adapter gathers what brokers say
findings.py   ok, warn or fail, a subject, what was found, the remedy
model.py  topics.py  records.py  cluster.py  permissions.py  group.py  sample.py    checks: facts in, findings out
command.py    all of it in order
"""

from streamer.doctor.command import Instruments, diagnose

__all__ = ["Instruments", "diagnose"]
