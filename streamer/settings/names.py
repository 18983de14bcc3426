"""The settings model seen as names: what the sources, the messages, the help and the documentation share."""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args, get_origin

from pydantic import BaseModel, Secret
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from streamer.settings.kinds import Unit

PREFIX = "STREAMER_"

NamePath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its path and the field that declares it."""

    path: NamePath
    field: FieldInfo

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def arguments(self) -> tuple[object, ...]:
        """The types that the option's own type is made of: a mapping's or list's, a union's members."""
        return get_args(self.field.annotation)

    @property
    def is_mapping(self) -> bool:
        return get_origin(self.field.annotation) is dict

    @property
    def is_list(self) -> bool:
        return get_origin(self.field.annotation) is tuple

    @property
    def is_secret(self) -> bool:
        return any(isinstance(a, type) and issubclass(a, Secret) for a in self.arguments)

    @property
    def unit(self) -> str:
        return next((m.name for m in self.field.metadata if isinstance(m, Unit)), "")

    @property
    def default_text(self) -> str:
        """The default as one would write it; empty where there is none to speak of."""
        default = self.field.default
        if default in ("", (), {}, None):
            return ""
        if isinstance(default, float):
            return f"{default:g}".replace("e+", "e")
        return default if isinstance(default, str) else json.dumps(default)


class Schema:
    """The options by path, and the sections that hold them."""

    def __init__(self, model: type[BaseSettings]) -> None:
        self.model = model
        self.options: dict[NamePath, Option] = {o.path: o for o in _walk(model, ())}
        self.sections = {path[:n] for path in self.options for n in range(len(path))}
        self.paths: list[NamePath] = [*self.options, *sorted(self.sections - {()})]

    def owner(self, path: Sequence[object]) -> Option | None:
        """The option that a path names, or that holds the mapping's key or list's item which it names."""
        names = tuple(map(str, path))
        return next((self.options[names[:n]] for n in range(1, len(names) + 1) if names[:n] in self.options), None)

    def nests(self, path: NamePath) -> bool:
        """Whether names follow: a section's, or a mapping's keys."""
        return path in self.sections or (path in self.options and self.options[path].is_mapping)

    def resolve(self, parts: Sequence[str]) -> NamePath | None:
        """A path whose parts beyond a mapping option are one key (`kafka.options` + `sasl.password`)."""
        path = tuple(parts)
        option = self.owner(path)
        if option and option.is_mapping and path != option.path:
            key = ".".join(path[len(option.path) :])
            return (*option.path, key) if key else None
        return path if path in self.paths else None


@dataclass(frozen=True, slots=True)
class Notation:
    """How settings are named in a place of flat names, and how such a name is taken apart."""

    kind: str
    spell: Callable[[NamePath], str]
    parts: Callable[[str], Sequence[str]]


VARIABLES = Notation(
    "environment variable",
    lambda path: PREFIX + "__".join(path).upper(),
    lambda name: name.removeprefix(PREFIX).lower().split("__") if name == name.upper() else (),
)
FLAGS = Notation("flag", lambda path: "--" + ".".join(path), lambda name: name.removeprefix("--").split("."))


def unknown(name: str, known: Iterable[str], hint: str = "") -> str:
    """What to say of a name that is no setting's, in the spelling of the known ones."""
    spellings = {n.lower(): n for n in known}
    last = re.split(r"\.|__", name.lower())[-1]
    close = [n for n in spellings if n == name.lower() or n.endswith(("." + last, "__" + last))]
    close = close or difflib.get_close_matches(name.lower(), spellings, n=1, cutoff=0.7)
    meant = f"did you mean {spellings[close[0]]}?" if close else "remove it; docs/configuration.md lists the names"
    return f"there is no such setting{hint}; {meant}"


def _walk(model: type[BaseModel], path: NamePath) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, (*path, name))
        else:
            yield Option((*path, name), field)
