"""A settings model seen as names: what the file, the environment, the flags and the documentation share."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, Secret
from pydantic.fields import FieldInfo

from streamer.setting_types import Unit

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
    def is_mapping(self) -> bool:
        return get_origin(self.field.annotation) is dict

    @property
    def is_list(self) -> bool:
        return get_origin(self.field.annotation) is tuple

    @property
    def is_secret(self) -> bool:
        return any(isinstance(a, type) and issubclass(a, Secret) for a in get_args(self.field.annotation))

    @property
    def type_text(self) -> str:
        """The type in words: what to write after the name."""
        annotation = self.field.annotation
        if get_origin(annotation) is Literal:
            return ", ".join(f"`{choice}`" for choice in get_args(annotation))
        kinds: dict[object, str] = {int: "whole number", float: "number", float | None: "number or null", str: "text"}
        return kinds.get(annotation, "mapping" if self.is_mapping else "list of names")

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

    @property
    def meaning(self) -> str:
        """The description with unit and default."""
        facts = [f"in {self.unit}"] if self.unit else []
        facts += [f"default {self.default_text}"] if self.default_text else []
        return f"{self.field.description}" + (f" ({', '.join(facts)})" if facts else "")

    @property
    def holds_text(self) -> bool:
        """Whether a mapping's values are strings and nothing else."""
        return str in get_args(self.field.annotation)[1:]


class Schema:
    """A settings model seen as names: its options, and the sections that hold them."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.options: dict[NamePath, Option] = {o.path: o for o in _walk(model, ())}
        self.sections = {path[:n] for path in self.options for n in range(len(path))}

    def owner(self, path: Sequence[object]) -> Option | None:
        """The option that a path names, or that holds the mapping's key or list's item which it names."""
        names = tuple(map(str, path))
        return next((self.options[names[:n]] for n in range(1, len(names) + 1) if names[:n] in self.options), None)

    def resolve(self, parts: Sequence[str]) -> NamePath | None:
        """A path whose parts beyond a mapping option are one key (`kafka.options` + `sasl.password`)."""
        path = tuple(parts)
        if path in self.options or path in self.sections:
            return path
        option = self.owner(path)
        if option is None or not option.is_mapping:
            return None
        return (*option.path, ".".join(path[len(option.path) :]))


def variable(path: Sequence[str]) -> str:
    """The environment variable of a setting."""
    return PREFIX + "__".join(path).upper()


def _walk(model: type[BaseModel], path: NamePath) -> Iterator[Option]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk(field.annotation, (*path, name))
        else:
            yield Option((*path, name), field)
