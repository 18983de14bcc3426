"""Settings from all their sources, or every reason why not."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from textwrap import fill

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from streamer.errors import ConfigError
from streamer.settings.names import FLAGS, PREFIX, VARIABLES, Schema
from streamer.settings.options import Settings
from streamer.settings.problems import explain, missing
from streamer.settings.sources import FileSource, TextSource, Traced, split_flags

REQUIRED_TO_RUN = ("model.path", "kafka.group_id", "input.topics")


class Loaded(Settings, BaseSettings, case_sensitive=True):
    """The settings as the library fills them; case counts, or it would take `KAFKA:` for `kafka:`."""


SCHEMA = Schema(Loaded)


def load_settings(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    required: Collection[str] = REQUIRED_TO_RUN,
    reads: Collection[str] | None = None,
) -> Settings:
    """The settings that a YAML file, the environment and flags make together; the later of them wins.

    arguments  flags such as `--kafka.group_id x` or `--kafka.group_id=x`, and `--config FILE`
    environ    the process's environment
    required   settings that a command cannot do without
    reads      the sections that a command reads, None for all: flags of others would have no effect

    Raises ConfigError that lists every problem: a name that is not known, a value that cannot be used, a
    required setting that is absent, a flag without effect.
    """
    problems: list[str] = []
    flags = split_flags(arguments, problems)
    problems += _without_effect(flags, reads)
    config = flags.pop("--config", None)
    files = [] if config is None else [FileSource(SCHEMA, config)]
    environment = TextSource(SCHEMA, VARIABLES, {n: text for n, text in environ.items() if n.startswith(PREFIX)})
    sources: tuple[Traced, ...] = (TextSource(SCHEMA, FLAGS, flags), environment, *files)
    problems += [problem for source in reversed(sources) for problem in source.problems]
    problems += missing(sources, required if all(file.is_read for file in files) else ())

    class Given(Loaded):
        @classmethod
        def settings_customise_sources(cls, *_: object, **_named: object) -> tuple[PydanticBaseSettingsSource, ...]:
            return sources

    try:
        settings = Settings(**dict(Given()))
    except ValidationError as error:
        problems += explain(SCHEMA, sources, error.errors(include_url=False))
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _without_effect(flags: Iterable[str], reads: Collection[str] | None) -> Iterator[str]:
    """A problem for each known flag of a section that the command does not read; files and variables may hold more."""
    if reads is None:
        return
    known = {FLAGS.spell(path).split(".")[0] for path in SCHEMA.paths} - {f"--{section}" for section in reads}
    takes = " and ".join(f"--{section}.*" for section in reads) or "no settings"
    for flag in flags:
        if flag.split(".")[0] in known or (flag == "--config" and not reads):
            yield f"flag {flag}: this command does not read it; remove it (it reads {takes})"


def flags_help() -> str:
    """Every flag with its meaning, unit and default, for a command's help."""
    lines = []
    for option in SCHEMA.options.values():
        facts = [f"in {option.unit}"] if option.unit else []
        facts += [f"default {option.default_text}"] if option.default_text else []
        meaning = f"{option.field.description}".replace("`", "") + (f" ({', '.join(facts)})" if facts else "")
        lines += [f"  --{option.name}", fill(meaning, 110, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(lines)
