"""Where settings come from: one YAML file, the environment and flags, each a source of pydantic-settings.

    kafka.group_id      YAML   kafka: {group_id: x}
                        env    STREAMER_KAFKA__GROUP_ID=x
                        flag   --kafka.group_id x

The library decodes JSON, nests names, and merges: a mapping key by key, a list as a whole. Added here is that
nothing passes in silence: it ignores a misspelt variable and a file that is not there, and takes the last of two
equal keys. Its command-line source stops at the first problem, quotes the value found, lets the last of two flags
win and knows no `--kafka.options.KEY`; so flags are read as variables are, under the same rules.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from streamer.settings.kinds import ALWAYS_TEXT
from streamer.settings.names import NamePath, Notation, Option, Schema, unknown

# what Kubernetes puts into every container of a namespace that has a Service named "streamer…"
SERVICE_LINK = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP|SCTP)(_|$)|$)")
SERVICE_LINK_HINT = " (if Kubernetes set it for a Service of that name, set enableServiceLinks: false on the pod)"

IN_WORDS = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list"}
NESTED = "\0"  # between the names of a path; a key may have dots, and no variable or flag can hold this


class Traced(PydanticBaseSettingsSource):
    """What our sources add to the library's: problems are collected, and each value's place is known."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.problems: list[str] = []
        self.tree: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        return self.tree

    def origin(self, path: NamePath) -> str:
        raise NotImplementedError

    def nested(self, value: object, path: NamePath = ()) -> dict[str, Any]:
        """A tree of known names, a mapping wherever they nest; an empty one where every line is commented out."""
        tree: dict[str, Any] = {}
        if isinstance(value, Mapping):
            for key, item in value.items():
                inner = (*path, str(key))
                if self.schema.resolve(inner):
                    tree[inner[-1]] = self.nested(item, inner) if self.schema.nests(inner) else item
                else:
                    self.problems.append(f"{'.'.join(inner)} ({self.origin(inner)}): {self._unknown('.'.join(inner))}")
        elif value is not None:
            self.problems.append(
                f"{'.'.join(path) or 'the file'} ({self.origin(path)}): found {IN_WORDS.get(type(value), 'a value')}, "
                "expected a mapping; write what is under it as name: value"
            )
        return tree

    def _unknown(self, name: str) -> str:
        known = [".".join(path) for path in self.schema.paths]
        if name in known:  # and yet not found: as one key with dots
            nested = name.replace(".", ": {") + ": …" + "}" * name.count(".")
            return f"dots do not nest in YAML; write {nested}"
        return unknown(name, known)


class FileSource(Traced, InitSettingsSource):
    """What a YAML file holds."""

    def __init__(self, schema: Schema, path: str) -> None:
        Traced.__init__(self, schema)
        self.path = path
        problem = ""
        try:
            self.tree = self.nested(yaml.load(Path(path).read_text("utf-8"), _Loader))  # noqa: S506  a SafeLoader
        except OSError as error:
            problem = f"cannot be read: {error.strerror}; name a YAML file"
        except UnicodeDecodeError:
            problem = "not UTF-8 text; name a YAML file"
        except yaml.YAMLError as error:
            problem = f"not valid YAML{_place(error)}; correct it there"
        self.is_read = not problem  # otherwise nobody knows what it would have set
        self.problems += [f"--config {path}: {problem}"] if problem else []
        InitSettingsSource.__init__(self, schema.model, self.tree)

    def origin(self, path: NamePath) -> str:
        return self.path


class TextSource(Traced, EnvSettingsSource):
    """Values written as text, each under a flat name, which must be a setting's: variables or flags."""

    def __init__(self, schema: Schema, notation: Notation, texts: Mapping[str, str]) -> None:
        Traced.__init__(self, schema)
        EnvSettingsSource.__init__(self, schema.model, env_prefix="", env_nested_delimiter=NESTED)
        self._origins: dict[NamePath, str] = {}
        decodable: dict[str, Any] = {}
        for name in sorted(texts):  # a section before what is in it, or the library lets it replace that
            origin = f"{notation.kind} {name}"
            path = schema.resolve(notation.parts(name))
            if not path:
                hint = SERVICE_LINK_HINT if SERVICE_LINK.search(name) else ""
                self.problems.append(f"{origin}: {unknown(name, map(notation.spell, schema.paths), hint)}")
                continue
            self._origins[path] = origin
            try:
                decodable[NESTED.join(path)] = _decodable(schema.owner(path), path, texts[name])
            except ValueError as error:
                self.problems.append(f"{'.'.join(path)} ({origin}): not valid JSON; expected {error}")
        self.env_vars = decodable
        self.tree = self.nested(EnvSettingsSource.__call__(self))

    def origin(self, path: NamePath) -> str:
        near = [other for other in self._origins if other[: len(path)] == path[: len(other)]]
        return self._origins[max(near, key=lambda other: (len(other) <= len(path), len(other)))]


def split_flags(arguments: Sequence[str], problems: list[str]) -> dict[str, str]:
    """Flags as name → text; `--a b` and `--a=b` are the same."""
    flags: dict[str, str] = {}
    rest = list(reversed(arguments))
    while rest:
        argument = rest.pop()
        name, equals, text = argument.partition("=")
        if not name.startswith("--") or name == "--":
            problems.append(f"{argument!r}: expected a flag such as --kafka.group_id NAME; remove it")
        elif not equals and (not rest or rest[-1].startswith("--")):
            problems.append(f"flag {name}: no value follows; write {name} VALUE or {name}=VALUE")
        elif name in flags:
            problems.append(f"flag {name}: given twice; keep one")
        else:
            flags[name] = text if equals else rest.pop()
    return flags


def _decodable(option: Option | None, path: NamePath, text: str) -> object:
    """A text as the library decodes it: JSON where a value has parts. ValueError with an example where it is not."""
    if option and path != option.path:  # one key of a mapping
        return text if str in option.arguments[1:] else _scalar(path[-1], text)
    if option and option.is_list and text[:1] != "[":
        return json.dumps([item.strip() for item in text.split(",")] if text else [])
    if option and not (option.is_list or option.is_mapping):
        return None if type(None) in option.arguments and text in ("", "null") else text
    try:
        return text if json.loads(text) is not None else "{}"  # null: as a section that is commented out
    except ValueError:
        example = 'a list such as ["a", "b"]' if option and option.is_list else 'an object such as {"name": "value"}'
        raise ValueError(example) from None


def _scalar(key: str, text: str) -> object:
    """A number, true or false where the text is one, as YAML would read it."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not any(t in key for t in ALWAYS_TEXT) else text


def _place(error: yaml.YAMLError) -> str:
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
        keys: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    raise yaml.constructor.ConstructorError(None, None, "a key comes twice", key.start_mark)
                keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
