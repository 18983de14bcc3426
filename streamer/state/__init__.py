"""What the group has saved: looked at (`streamer state show`) and given up (`streamer state reset`).

group.py  what both ask of Kafka beyond reading
show.py   one stream's snapshot
reset.py  every stream fresh
"""

from streamer.state.group import GroupState
from streamer.state.reset import reset
from streamer.state.show import show

__all__ = ["GroupState", "reset", "show"]
