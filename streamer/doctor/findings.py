"""What a check says: a level, the subject, what was found, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """ok: as it should be; warn: works, at a price or a risk; fail: the daemon stops or breaks its promise."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of `streamer doctor`."""

    level: Level
    subject: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level.value:<4}  {self.subject}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")


Findings = Iterable[Finding]


def ok(subject: str, found: str, note: str = "") -> Finding:
    """As it should be."""
    return Finding(Level.OK, subject, found, note)


def warn(subject: str, found: str, remedy: str) -> Finding:
    """Works, at a price or a risk."""
    return Finding(Level.WARN, subject, found, remedy)


def fail(subject: str, found: str, remedy: str) -> Finding:
    """The daemon stops, or breaks its promise."""
    return Finding(Level.FAIL, subject, found, remedy)


def duration(milliseconds: float) -> str:
    """A time span in the largest unit that is not a fraction of one."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if milliseconds >= size:
            return f"{milliseconds / size:.3g} {unit}"
    return f"{milliseconds:g} ms"


def amount(size: float) -> str:
    """A number of bytes, for people."""
    if size < 1024:
        return f"{size:,.0f} bytes"
    for unit in ("KiB", "MiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:,.1f} GiB"
