"""Structured logs: one past-tense event of the life-cycle per line, with fields; none per record.

level=info event=partitions_assigned partitions=events-0,events-1
"""

import json
import logging
import re
import sys

PLAIN = re.compile(r"[\w.,:/@+-]+")

logger = logging.getLogger("streamer")


def log(event: str, level: int = logging.INFO, **fields: object) -> None:
    """One line: `level=… event=… name=value …`; values that hold spaces or quotes are written as JSON strings."""
    parts = [f"event={event}", *(f"{name}={_value(value)}" for name, value in fields.items())]
    logger.log(level, " ".join(parts))


def set_up(worker: int | None = None) -> None:
    """Write this process's log lines to standard error; other libraries' only from warnings on.

    worker  the number of this process among several, which then is in every line
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(worker))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


class _Lines(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._whose = "" if worker is None else f"worker={worker} "

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.name != logger.name:
            text = f"event=library_logged logger={record.name} message={_value(text)}"
        return f"level={record.levelname.lower()} {self._whose}{text}"


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)
