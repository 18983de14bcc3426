"""Where settings come from: one YAML file, then the environment, then flags; a later source wins.

Nothing is validated here beyond its name. Each value keeps its origin, so that a problem found later
can say which line of which source to change, and problems are collected: an operator corrects them all
at once, not one per start. A mapping is merged key by key across sources; a list is replaced.

    kafka.group_id      YAML   kafka: {group_id: x}
                        env    STREAMER_KAFKA__GROUP_ID=x
                        flag   --kafka.group_id x
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic_core import ErrorDetails

from streamer.schema import PREFIX, NamePath, Option, Schema, variable
from streamer.setting_types import ALWAYS_TEXT

# what Kubernetes puts into every container of a namespace that has a Service named "streamer…"
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)")

PLAIN_WORDS = {  # pydantic's error types, for somebody who edits YAML
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "tuple_type": "a list of names",
    "too_short": "at least one name",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}


@dataclass(frozen=True, slots=True)
class Given:
    """One value somebody wrote, and where."""

    path: NamePath
    value: object
    origin: str


class Sources:
    """Every value given, in order of precedence, and every problem met while reading."""

    def __init__(self, schema: Schema, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
        self.schema = schema
        self.problems: list[str] = []
        self.is_complete = True  # until a file cannot be read: then nobody knows what it would have set
        files, flags = self._split(arguments)
        self.given: list[Given] = []
        for path in files:
            self.given += self._from_file(path)
        self.given += self._from_environment(environ)
        self.given += self._from_flags(flags)

    def merged(self) -> dict[str, Any]:
        """The values as one nested mapping."""
        tree: dict[str, Any] = {}
        for given in self.given:
            branch = tree
            for name in given.path[:-1]:
                branch = branch.setdefault(name, {})
            branch[given.path[-1]] = given.value
        return tree

    def final(self, path: NamePath) -> Given | None:
        """The value that won at a path, or at the first name below it."""
        return next((g for g in reversed(self.given) if g.path[: len(path)] == path), None)

    def _split(self, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Flags as name → text, with `--config` taken out. `--a b` and `--a=b` are the same."""
        flags: dict[str, str] = {}
        rest = list(reversed(arguments))
        while rest:
            argument = rest.pop()
            name, equals, text = argument.removeprefix("--").partition("=")
            if not argument.startswith("--") or not name:
                self.problems.append(f"{argument!r}: expected a flag such as --kafka.group_id NAME; remove it")
            elif not equals and (not rest or rest[-1].startswith("--")):
                self.problems.append(f"flag --{name}: no value follows; write --{name} VALUE or --{name}=VALUE")
            elif name in flags:
                self.problems.append(f"flag --{name}: given twice; keep one")
            else:
                flags[name] = text if equals else rest.pop()
        config = flags.pop("config", None)
        return ([] if config is None else [config]), flags

    def _from_file(self, path: str) -> Iterator[Given]:
        try:
            content = yaml.load(Path(path).read_text("utf-8"), _Loader)  # noqa: S506  _Loader is a SafeLoader
        except OSError as error:
            problem = f"cannot be read: {error.strerror}; name a YAML file"
        except UnicodeDecodeError:
            problem = "not UTF-8 text; name a YAML file"
        except yaml.YAMLError as error:
            problem = f"not valid YAML{_where(error)}; correct it there"
        else:
            yield from self._flatten((), content, path)
            return
        self.problems.append(f"--config {path}: {problem}")
        self.is_complete = False

    def _from_environment(self, environ: Mapping[str, str]) -> Iterator[Given]:
        known = [variable(path) for path in self.schema.options]
        for name in sorted(n for n in environ if n.startswith(PREFIX)):
            path = self.schema.resolve(name[len(PREFIX) :].lower().split("__")) if name == name.upper() else None
            if path:
                yield from self._read_text(path, environ[name], f"environment variable {name}")
            else:
                kubernetes = (
                    " (if Kubernetes set it for a Service of that name, set enableServiceLinks: false on the pod)"
                    if SERVICE_LINK.search(name)
                    else ""
                )
                self._unknown(f"environment variable {name}", name.upper(), known, kubernetes)

    def _from_flags(self, flags: Mapping[str, str]) -> Iterator[Given]:
        known = ["config", *(o.name for o in self.schema.options.values())]
        for name, text in flags.items():
            if path := self.schema.resolve(name.split(".")):
                yield from self._read_text(path, text, f"flag --{name}")
            else:
                self._unknown(f"flag --{name}", name, known, "", "--")

    def _read_text(self, path: NamePath, text: str, origin: str) -> Iterator[Given]:
        """A value written as text: JSON where it has parts; a list of names may be comma-separated instead."""
        option = self.schema.owner(path)
        if option is None or (option.is_mapping and path == option.path) or (option.is_list and text[:1] == "["):
            try:
                value = json.loads(text)
            except ValueError:
                self.problems.append(f"{'.'.join(path)} ({origin}): not valid JSON; expected {_json_example(option)}")
            else:
                yield from self._flatten(path, value, origin)
        elif option.is_list:
            yield Given(path, [item.strip() for item in text.split(",")] if text else [], origin)
        elif option.is_mapping:
            yield Given(path, text if option.holds_text else _scalar(path[-1], text), origin)
        else:
            nullable = type(None) in get_args(option.field.annotation)
            yield Given(path, None if nullable and text in ("", "null") else text, origin)

    def _flatten(self, path: NamePath, value: object, origin: str) -> Iterator[Given]:
        """A tree of values as one `Given` per option, or per key of an option that is a mapping."""
        option = self.schema.options.get(path)
        if option and not option.is_mapping:
            yield Given(path, value, origin)
        elif value is None:
            return  # a section whose every line is commented out
        elif not isinstance(value, Mapping):
            name = ".".join(path) or "the file"
            self.problems.append(
                f"{name} ({origin}): found {_kind(value)}, expected a mapping; write what is under it as name: value"
            )
        elif option:
            yield from (Given((*path, str(key)), item, origin) for key, item in value.items())
        else:
            for key, item in value.items():
                inner = (*path, str(key))
                name = ".".join(inner)
                if inner in self.schema.options or inner in self.schema.sections:
                    yield from self._flatten(inner, item, origin)
                elif tuple(name.split(".")) in self.schema.options:
                    nested = name.replace(".", ": {") + ": …" + "}" * name.count(".")
                    self.problems.append(f"{name} ({origin}): dots do not nest in YAML; write {nested}")
                else:
                    known = [".".join(p) for p in (*self.schema.options, *self.schema.sections)]
                    self._unknown(f"{name} ({origin})", name, known)

    def _unknown(self, what: str, name: str, known: Iterable[str], hint: str = "", dashes: str = "") -> None:
        """Refuse a name, without its value: a misspelt secret is still one."""
        known = list(known)
        last = re.split(r"\.|__", name)[-1]
        close = [n for n in known if n == name or n.endswith(("." + last, "__" + last))]
        close = close or difflib.get_close_matches(name, known, n=1, cutoff=0.7)
        meant = f"did you mean {dashes}{close[0]}?" if close else "remove it; docs/configuration.md lists the names"
        self.problems.append(f"{what}: there is no such setting{hint}; {meant}")


def missing(sources: Sources, required: Iterable[str]) -> Iterator[str]:
    """A problem for each required setting that nobody gave, or gave empty."""
    for name in required if sources.is_complete else ():
        path = tuple(name.split("."))
        given = sources.final(path)
        if given is None or given.value in ("", [], None):
            yield (
                f"{name}: not set, and this command needs it; "
                f"set it in the --config file, as {variable(path)}, or with --{name}"
            )


def explain(sources: Sources, errors: Iterable[ErrorDetails]) -> Iterator[str]:
    """What validation found, as one line per setting: name, origin, value found, expected, remedy."""
    explained: set[NamePath] = set()
    for error in errors:
        option = sources.schema.owner(error["loc"])
        if option is None or error["type"] == "conflict":
            setting = error.get("ctx", {}).get("setting", "")
            path, message = sources.schema.resolve(setting.split(".")) or (), error["msg"]
        else:
            path = tuple(map(str, error["loc"][: len(option.path) + option.is_mapping]))
            message = _mismatch(option, error)
        if path not in explained:
            explained.add(path)
            given = sources.final(path)
            yield f"{'.'.join(path)}{f' ({given.origin})' if given else ''}: {message}"


def _mismatch(option: Option, error: ErrorDetails) -> str:
    found = "***" if option.is_secret else f"{error['input']!r:.100}"
    said = error["msg"].removeprefix("Value error, ").removeprefix("expected ").removeprefix("Input should be ")
    expected = PLAIN_WORDS.get(error["type"], said)
    if option.is_secret:
        expected = "text, a number, true or false"
    default = f", or leave it out for the default, {option.default_text}" if option.default_text else ""
    return f"found {found}, expected {expected}; correct it{default}"


def _scalar(key: str, text: str) -> object:
    """A number, true or false where the text is one, as YAML would read it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not any(t in key for t in ALWAYS_TEXT) else text


def _kind(value: object) -> str:
    return {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}.get(
        type(value), "a value"
    )


def _json_example(option: Option | None) -> str:
    return 'a list such as ["a", "b"]' if option and option.is_list else 'an object such as {"name": "value"}'


def _where(error: yaml.YAMLError) -> str:
    """Place and problem, without the text found there: the line may hold a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return ""
    problem = error.problem or "wrong syntax"
    if not problem.startswith("expected"):  # which quotes syntax, where others quote names
        problem = problem.split("'")[0].strip()
    return f" at line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1} ({problem})"


class _Loader(yaml.SafeLoader):
    """YAML's safe subset; a key that comes twice is an error, and a time stays the text it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in keys and isinstance(key, str):
                raise yaml.constructor.ConstructorError(None, None, "a key comes twice", key_node.start_mark)
            keys.add(key if isinstance(key, str) else id(key))
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
