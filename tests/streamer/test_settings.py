"""Settings: which value wins, and what documents them. Run as a script, it writes the table of options."""

import os
from pathlib import Path
from threading import Thread
from typing import Annotated, Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from streamer.settings import (
    SCHEMA,
    InputFields,
    InputSettings,
    OutputSettings,
    Settings,
    flags_help,
    load_settings,
)
from tests.helm.chart import main as make_chart_files

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "configuration.md"
BEGIN, END = "by `python tests/streamer/test_settings.py` -->\n", "<!-- end of options -->"


def load(*flags, env=None):
    """Settings of a command that requires none."""
    return load_settings(flags, env or {}, required=())


# which value wins


def test_defaults_are_those_of_the_design():
    settings = load()
    assert settings == Settings()
    assert settings.model.providers == ("CPUExecutionProvider",)
    assert settings.kafka.bootstrap_servers == "127.0.0.1:9092"
    assert settings.output.topic == "forecasts"
    assert settings.output.dead_letter_topic == settings.kafka.group_instance_id == ""
    assert (settings.input.max_gap_steps, settings.state.max_streams) == (168, 1_000_000)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 9108)


def test_flags_win_over_the_environment_and_that_over_the_file(file):
    config = file("kafka: {group_id: file, group_instance_id: file, bootstrap_servers: 'file:1'}")
    env = {"STREAMER_KAFKA__GROUP_ID": "env", "STREAMER_KAFKA__GROUP_INSTANCE_ID": "env"}
    kafka = load("--kafka.group_id", "flag", config, env=env).kafka
    assert (kafka.group_id, kafka.group_instance_id, kafka.bootstrap_servers) == ("flag", "env", "file:1")


def test_a_level_that_only_one_source_touches_keeps_the_others_values(file):
    config = file("input: {topics: [a], fields: {stream: $key, covariates: {temp: w.t}}}")
    env = {"STREAMER_INPUT__FIELDS__TS": "at", "STREAMER_INPUT__FIELDS__COVARIATES__WIND": "w.v"}
    settings = load(config, "--input.fields.ts_unit=s", env=env).input
    assert settings.topics == ("a",)
    assert settings.fields == InputFields(
        stream="$key", ts="at", ts_unit="s", covariates={"temp": "w.t", "wind": "w.v"}
    )


def test_a_mapping_in_json_is_merged_into_the_file_key_by_key(file):
    config = file("kafka: {options: {security_protocol: SSL, ssl_cafile: ca.pem}}")
    env = {"STREAMER_KAFKA__OPTIONS": '{"ssl_cafile": "other.pem", "fetch_max_bytes": 7}'}
    assert load(config, env=env).kafka.client_options() == {
        "security_protocol": "SSL",
        "ssl_cafile": "other.pem",
        "fetch_max_bytes": 7,
    }


def test_a_whole_section_can_come_as_json():
    env = {"STREAMER_INPUT": '{"topics": ["a"], "fields": {"ts": "at"}}'}
    settings = load(env=env).input
    assert (settings.topics, settings.fields.ts, settings.fields.value) == (("a",), "at", "value")


def test_the_more_specific_variable_wins_over_its_sections_json():
    env = {"STREAMER_INPUT__FIELDS__TS": "at", "STREAMER_INPUT__FIELDS": '{"ts": "when", "value": "v"}'}
    for given in (env, dict(reversed(env.items()))):
        fields = load(env=given).input.fields
        assert (fields.ts, fields.value) == ("at", "v")


def test_a_section_that_is_null_in_json_hides_nothing(file):
    env = {"STREAMER_INPUT": "null", "STREAMER_INPUT__FIELDS": "null", "STREAMER_INPUT__FIELDS__TS": "at"}
    settings = load(file("input: {topics: [a], fields: {value: v}}"), env=env).input
    assert (settings.topics, settings.fields.ts, settings.fields.value) == (("a",), "at", "v")


def test_a_covariates_name_keeps_its_dots_and_capitals_in_a_flag():
    flags = ["--input.fields.covariates.EWR/temp.2m", "w.t"]
    assert load(*flags).input.fields.covariates == {"EWR/temp.2m": "w.t"}


@pytest.mark.parametrize("text", ['["a", "b"]', "a,b", "a, b"])
def test_a_list_is_json_or_comma_separated(text):
    assert load(f"--input.topics={text}").input.topics == ("a", "b")
    assert load(env={"STREAMER_INPUT__TOPICS": text}).input.topics == ("a", "b")


def test_a_list_replaces_the_one_below(file):
    assert load(file("input: {topics: [a, b]}"), "--input.topics=c").input.topics == ("c",)


def test_an_option_passed_on_keeps_dots_in_its_name_and_the_type_its_text_shows():
    flags = ["--kafka.options.socket.timeout.ms", "500", "--kafka.options.x=true", "--kafka.options.y=1.5"]
    assert load(*flags).kafka.client_options() == {"socket.timeout.ms": 500, "x": True, "y": 1.5}


def test_a_variable_can_name_an_option_with_dots():
    env = {"STREAMER_KAFKA__OPTIONS__SASL__PASSWORD": "x"}
    assert load(env=env).kafka.client_options() == {"sasl.password": "x"}


def test_a_password_of_digits_stays_text():
    env = {"STREAMER_KAFKA__OPTIONS__SASL_PLAIN_PASSWORD": "0815", "STREAMER_KAFKA__OPTIONS__SASL_PLAIN_USERNAME": "42"}
    assert load(env=env).kafka.client_options() == {"sasl_plain_password": "0815", "sasl_plain_username": "42"}


def test_a_section_whose_lines_are_all_commented_out_is_empty(file):
    assert load(file("kafka:\n  # group_id: g\nhttp: {port: 0}\n")).http.port == 0


def test_an_empty_file_sets_nothing(file):
    assert load(file("# nothing\n")) == Settings()


def test_empty_turns_dead_letters_and_the_instance_off_again(file):
    config = file("output: {dead_letter_topic: dead}\nkafka: {group_instance_id: a}")
    settings = load(config, "--output.dead_letter_topic=", env={"STREAMER_KAFKA__GROUP_INSTANCE_ID": ""})
    assert (settings.output.dead_letter_topic, settings.kafka.group_instance_id) == ("", "")


@pytest.mark.parametrize("text", ["null", ""])
def test_null_gives_an_optional_number_back_to_its_default(file, text):
    config = file("input: {max_future_seconds: 60}")
    assert load(config).input.max_future_seconds == 60
    assert load(config, f"--input.max_future_seconds={text}").input.max_future_seconds is None


def test_the_environment_of_other_programs_is_none_of_our_business():
    assert load(env={"PATH": "/bin", "KAFKA__GROUP_ID": "x", "STREAMERS": "x"}) == Settings()


def test_a_time_in_yaml_stays_the_text_it_is(file):
    settings = load(file("input: {start: 2026-01-31T00:00:00+01:00}")).input
    assert settings.start == "2026-01-31T00:00:00+01:00"
    assert settings.start_ms == 1_769_814_000_000
    assert InputSettings(start="latest").start_ms is None


def test_settings_made_directly_read_no_environment(monkeypatch):
    monkeypatch.setenv("STREAMER_HTTP__PORT", "1")
    assert Settings().http.port == load().http.port == 9108


def test_a_file_may_be_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    Thread(target=pipe.write_text, args=("http: {port: 1}",)).start()
    assert load(f"--config={pipe}").http.port == 1


def test_settings_cannot_change():
    with pytest.raises(ValidationError):
        load().http.port = 1  # type: ignore[misc]


# sections on their own, and the documentation


def test_a_section_can_be_made_without_the_others():
    assert InputSettings(topics=("a",)).fields == InputFields()
    assert OutputSettings(dead_letter_topic="dead").topic == "forecasts"


def test_the_example_file_loads_and_repeats_no_default():
    path = REPOSITORY / "configs" / "streamer.yaml"
    settings = load_settings(["--config", str(path)], {})
    default = Settings()
    written = [o.path for o in SCHEMA.options.values() if _at(settings, o.path) != _at(default, o.path)]
    assert [".".join(p) for p in written] == [
        "model.path",
        "input.topics",
        "output.dead_letter_topic",
        "kafka.group_id",
    ]


def test_help_names_every_flag():
    assert [line[4:] for line in flags_help().splitlines() if line.startswith("  --")] == [
        option.name for option in SCHEMA.options.values()
    ]


def test_every_option_says_what_it_means_in_a_sentence():
    assert [o.name for o in SCHEMA.options.values() if not (o.field.description or "").endswith(".")] == []


def test_the_table_of_options_is_up_to_date():
    text = DOCUMENT.read_text("utf-8")
    assert text == with_table(text), "run: python tests/streamer/test_settings.py"


def _at(settings, path):
    for name in path:
        settings = getattr(settings, name)
    return settings


def _type_text(option):
    """The type in words: what to write after the name."""
    annotation = option.field.annotation
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in option.arguments)
    kinds = {
        int: "whole number",
        float: "number",
        float | None: "number or null",
        str: "text",
        bool: "`true` or `false`",
    }
    if option.is_list:
        element = option.arguments[0]
        while get_origin(element) is Annotated:
            element = get_args(element)[0]
        return {int: "list of whole numbers", float: "list of numbers"}.get(element, "list of names")
    return "mapping" if option.is_mapping else kinds[annotation]  # a kind without words is an error


def with_table(text):
    """The document with its table of options made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = ["| Option | Type | Default | Unit | Meaning |", "|---|---|---|---|---|"]
    for option in SCHEMA.options.values():
        default = f"`{option.default_text}`" if option.default_text else ""
        cells = (f"`{option.name}`", _type_text(option), default, option.unit, option.field.description)
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return before + BEGIN + "\n" + "\n".join(rows) + "\n\n" + END + after


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text("utf-8")), "utf-8")
    make_chart_files()  # the chart's schema holds the options too
