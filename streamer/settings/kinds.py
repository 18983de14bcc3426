"""What a setting's value can be: checked types whose errors say what was expected."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Secret
from pydantic_core import PydanticCustomError
from pydantic_settings import SettingsConfigDict

TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")  # Kafka's own rule for topic names
ALWAYS_TEXT = ("password", "secret", "username")  # client options of such names are text, even if all digits


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a number, for the documentation."""

    name: str


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("expected a number")
    return value


def _topic(name: str) -> str:
    if not TOPIC.fullmatch(name):
        raise ValueError("expected a topic name: 1 to 249 of a-z A-Z 0-9 . _ -")
    return name


def _no_repeats(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("expected each name once")
    return names


def _servers(text: str) -> str:
    if not all(re.fullmatch(r"\s*\S+:\d{1,5}\s*", server) for server in text.split(",")):
        raise ValueError("expected host:port, several separated by commas")
    return text


def _start(text: str) -> str:
    if text in ("earliest", "latest"):
        return text
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        raise ValueError("expected earliest, latest, or a time with its zone such as 2026-01-31T00:00:00Z")
    return text


def _fits_model(number: float) -> float:
    # a state that remembers a value of 1e36 counts as exploded, and float32 ends soon after
    if number >= 1e36:
        raise ValueError("expected less than 1e36")
    return number


def path_or(*special: str) -> AfterValidator:
    def check(path: str) -> str:
        if path not in special and (path.startswith("$") or not all(path.split("."))):
            raise ValueError("expected " + " or ".join(["a dotted path such as data.reading", *special]))
        return path

    return AfterValidator(check)


Number = BeforeValidator(_no_boolean)
FitsModel = AfterValidator(_fits_model)
Topic = Annotated[str, AfterValidator(_topic)]
TopicOrNone = Annotated[str, AfterValidator(lambda name: name and _topic(name))]
Servers = Annotated[str, AfterValidator(_servers)]
Start = Annotated[str, AfterValidator(_start)]
Distinct = AfterValidator(_no_repeats)
FieldPath = Annotated[str, path_or()]


class Section(BaseModel):
    """What all groups of settings share. Errors hide their input: it may be a secret."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class OptionValue(Secret[str | int | float | bool]):
    """A value passed on to the Kafka client; any of them may be a password, so none is ever shown."""

    def _display(self) -> str:
        return "***"


def conflict(setting: str, message: str) -> PydanticCustomError:
    """A value that another setting forbids."""
    return PydanticCustomError("conflict", "{message}", {"message": message, "setting": setting})
