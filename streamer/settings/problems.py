"""What is refused, in words: the setting, where it stands, what was found, what was expected, what to do.

A misspelt secret is still a secret: an unknown name is reported without its value, and a secret option's
value is never shown.
"""

from collections.abc import Iterable, Iterator, Sequence

from pydantic_core import ErrorDetails

from streamer.settings.names import VARIABLES, NamePath, Option, Schema
from streamer.settings.sources import Traced

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


def missing(sources: Sequence[Traced], required: Iterable[str]) -> Iterator[str]:
    """A problem for each required setting that nobody gave, or gave empty."""
    for name in required:
        path = tuple(name.split("."))
        given = _winner(sources, path)
        if given is None or given[1] in (None, "", []):
            yield (
                f"{name}: not set, and this command needs it; "
                f"set it in the --config file, as {VARIABLES.spell(path)}, or with --{name}"
            )


def explain(schema: Schema, sources: Sequence[Traced], errors: Iterable[ErrorDetails]) -> Iterator[str]:
    """What validation found, one line per setting; sources as they win, the first over the next."""
    explained: set[NamePath] = set()
    for error in errors:
        option = schema.owner(error["loc"])
        path = tuple(map(str, error["loc"]))
        if option is None or error["type"] == "conflict":
            path = schema.resolve(error.get("ctx", {}).get("setting", "").split(".")) or ()
            message = error["msg"]
        else:
            path = path[: len(option.path) + option.is_mapping]
            message = _mismatch(option, error)
        if path not in explained:
            explained.add(path)
            given = _winner(sources, path) if path else None
            yield f"{'.'.join(path)}{f' ({given[0].origin(path)})' if given else ''}: {message}"


def _mismatch(option: Option, error: ErrorDetails) -> str:
    found = "***" if option.is_secret else f"{error['input']!r:.100}"
    said = error["msg"].removeprefix("Value error, ").removeprefix("expected ").removeprefix("Input should be ")
    expected = PLAIN_WORDS.get(error["type"], said)
    if option.is_secret:
        expected = "text, a number, true or false"
    default = f", or leave it out for the default, {option.default_text}" if option.default_text else ""
    return f"found {found}, expected {expected}; correct it{default}"


def _winner(sources: Iterable[Traced], path: NamePath) -> tuple[Traced, object] | None:
    """The first source that has something at a path, and what it has."""
    for source in sources:
        value: object = source.tree
        for name in path:
            if not isinstance(value, dict) or name not in value:
                break
            value = value[name]
        else:
            return source, value
    return None
