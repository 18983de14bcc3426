"""Settings: what wins, what is refused, and what a refusal says. Run as a script, it writes the table of options."""

import os
from pathlib import Path
from threading import Thread
from typing import Literal, get_origin

import pytest
from pydantic import ValidationError

from streamer.errors import ConfigError
from streamer.settings import (
    SCHEMA,
    InputFields,
    InputSettings,
    KafkaSettings,
    OutputSettings,
    Settings,
    flags_help,
    load_settings,
)

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs" / "configuration.md"
BEGIN, END = "by `python tests/streamer/test_settings.py` -->\n", "<!-- end of options -->"
REQUIRED = ("--model.path=m.onnx", "--kafka.group_id=g", "--input.topics=events")
SECRET = "hunter2"


def load(*flags, env=None):
    """Settings of a command that requires none."""
    return load_settings(flags, env or {}, required=())


def refusal(*flags, env=None, required=()):
    with pytest.raises(ConfigError) as error:
        load_settings(flags, env or {}, required=required)
    return str(error.value)


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "streamer.yaml"
        path.write_text(text, "utf-8")
        return f"--config={path}"

    return write


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


# unknown names


def test_an_unknown_key_is_refused_with_its_file_and_a_guess(file):
    config = file("kafka: {group_ids: g}")
    assert refusal(config) == (
        f"kafka.group_ids ({config.removeprefix('--config=')}): there is no such setting; did you mean kafka.group_id?"
    )


def test_an_unknown_variable_is_refused_with_a_guess():
    assert refusal(env={"STREAMER_KAFKA_GROUP_ID": "g"}) == (
        "environment variable STREAMER_KAFKA_GROUP_ID: there is no such setting; did you mean STREAMER_KAFKA__GROUP_ID?"
    )


def test_a_variable_in_lower_case_is_refused_with_a_guess():
    assert "did you mean STREAMER_HTTP__PORT?" in refusal(env={"STREAMER_http__port": "1"})


def test_an_unknown_flag_is_refused_with_a_guess():
    assert refusal("--kafka.group-id", "g") == (
        "flag --kafka.group-id: there is no such setting; did you mean --kafka.group_id?"
    )


@pytest.mark.parametrize("text", ["KAFKA: {group_id: g}", "kafka: {Group_Id: g}"])
def test_a_key_in_capitals_is_refused_with_a_guess(file, text):
    assert "did you mean kafka" in refusal(file(text))


def test_a_key_of_json_in_capitals_is_refused_with_a_guess():
    assert refusal(env={"STREAMER_KAFKA": '{"Group_Id": "g"}'}) == (
        "kafka.Group_Id (environment variable STREAMER_KAFKA): there is no such setting; did you mean kafka.group_id?"
    )


def test_the_right_name_in_the_wrong_section_is_guessed():
    assert "did you mean --input.topics?" in refusal("--kafka.topics=a")


def test_a_name_like_no_other_gets_no_guess(file):
    assert "remove it" in refusal(file("zzz: 1"))


def test_a_dotted_key_in_yaml_is_refused_with_the_way_to_write_it(file):
    assert "dots do not nest in YAML; write kafka: {group_id: …}" in refusal(file("kafka.group_id: g"))


def test_a_variable_that_kubernetes_injects_is_refused_with_the_remedy():
    assert "enableServiceLinks: false" in refusal(env={"STREAMER_SERVICE_HOST": "10.0.0.7"})
    assert "enableServiceLinks: false" in refusal(env={"STREAMER_PORT_9108_TCP_ADDR": "10.0.0.7"})


# wrong values


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--model.threads=0", "greater than or equal to 1"),
        ("--model.threads=two", "a whole number"),
        ("--model.threads=1.5", "a whole number"),
        ("--model.providers=", "at least one name"),
        ("--model.providers=A,A", "each name once"),
        ("--input.topics=a b", "a topic name"),
        ("--input.topics=..", "a topic name"),
        ("--input.topics=a,a", "each name once"),
        ("--input.start=yesterday", "earliest, latest, or a time"),
        ("--input.start=2026-01-31T00:00:00", "a time with its zone"),
        ("--input.slot=ceil", "'floor' or 'nearest'"),
        ("--input.max_gap_steps=-1", "greater than or equal to 0"),
        ("--input.max_gap_steps=1000001", "less than or equal to 1000000"),
        ("--input.max_abs=0", "greater than 0"),
        ("--input.max_abs=1e+36", "less than 1e36"),
        ("--input.max_abs=nan", "a finite number"),
        ("--input.max_future_seconds=-1", "greater than or equal to 0"),
        ("--input.max_record_bytes=0", "greater than or equal to 1"),
        ("--input.fields.ts_unit=us", "'ms', 's' or 'iso8601'"),
        ("--input.fields.value=", "a dotted path"),
        ("--input.fields.value=a..b", "a dotted path"),
        ("--input.fields.value=$key", "a dotted path"),
        ("--input.fields.stream=$timestamp", "or $key"),
        ("--input.fields.ts=$key", "or $timestamp"),
        ("--input.fields.covariates.temp=.t", "a dotted path"),
        ("--output.topic=", "a topic name"),
        ("--output.compression=snappy", "'none', 'gzip', 'lz4' or 'zstd'"),
        ("--kafka.client=confluent", "'kafka-python'"),
        ("--kafka.bootstrap_servers=localhost", "host:port"),
        ("--kafka.connect_timeout_seconds=0", "greater than 0"),
        ("--state.max_streams=0", "greater than or equal to 1"),
        ("--state.max_streams=1000000001", "less than or equal to 1000000000"),
        ("--delivery.commit_interval_seconds=0", "greater than 0"),
        ("--http.host=", "not empty"),
        ("--http.port=65536", "less than or equal to 65535"),
    ],
)
def test_a_value_out_of_range_is_refused_with_name_origin_value_and_expectation(flag, expected):
    name, _, value = flag.removeprefix("--").partition("=")
    message = refusal(flag)
    assert message.startswith(f"{name} (flag --{name}): found ")
    assert expected in message
    assert value.split(",")[0] in message
    assert "correct it" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {threads: true}", "model.threads"),
        ("kafka: {group_id: 17}", "found 17, expected text"),
        ("output: {topic: no}", "found False, expected text"),
        ("input: {topics: events}", "expected a list of names"),
        ("input: {topics: [events, 3]}", "found 3, expected text"),
        ("http: {port: }", "found None, expected a whole number"),
        ("http: 9108", "found a number, expected a mapping"),
        ("[http]", "the file"),
        ("kafka: {options: [a]}", "found a list, expected a mapping"),
    ],
)
def test_yaml_of_another_type_is_refused(file, text, expected):
    assert expected in refusal(file(text))


@pytest.mark.parametrize("text", ["kafka: {options: a=b}", "kafka: a=b", "{1: a}", "? [a]\n: b"])
def test_what_is_wrong_in_the_file_is_refused_even_where_a_variable_would_cover_it(file, text):
    assert len(refusal(file(text), env={"STREAMER_KAFKA__OPTIONS__A": "b"}).splitlines()) == 1


def test_json_of_another_type_is_refused():
    env = {"STREAMER_INPUT": "[1]", "STREAMER_INPUT__TOPICS": "a", "STREAMER_KAFKA__OPTIONS": "7"}
    message = refusal(env=env)
    assert "input (environment variable STREAMER_INPUT): found a list, expected a mapping" in message
    assert "kafka.options (environment variable STREAMER_KAFKA__OPTIONS): found a number" in message


def test_json_that_cannot_be_read_is_refused_with_an_example():
    assert 'a list such as ["a", "b"]' in refusal("--input.topics=[a")
    assert 'an object such as {"name": "value"}' in refusal(env={"STREAMER_INPUT__FIELDS": "a"})


@pytest.mark.parametrize("option", ["bootstrap_servers", "group.id", "group_instance_id"])
def test_a_client_option_with_a_setting_of_its_own_is_refused(option):
    assert f"set kafka.{option.replace('.', '_')} instead" in refusal(f"--kafka.options.{option}=x")


def test_a_file_that_is_not_there_is_refused_alone():
    message = refusal("--config", "/nowhere/streamer.yaml", required=("kafka.group_id",))
    assert message == "--config /nowhere/streamer.yaml: cannot be read: No such file or directory; name a YAML file"


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8 text" in refusal("--config", str(tmp_path / "model.onnx"))


def test_a_file_with_control_characters_is_refused(file):
    assert "not valid YAML" in refusal(file("kafka: \x01"))


def test_broken_yaml_is_refused_with_its_place(file):
    message = refusal(file("kafka:\n  group_id: [a}\n"))
    assert "not valid YAML at line 2, column 15 (expected ',' or ']', but got '}')" in message


def test_a_key_that_comes_twice_is_refused(file):
    message = refusal(file("kafka: {group_id: a}\nhttp: {port: 0}\nkafka: {group_id: b}\n"))
    assert "line 3, column 1 (a key comes twice)" in message


@pytest.mark.parametrize("flags", [["--kafka.group_id"], ["--kafka.group_id", "--http.port=0"]])
def test_a_flag_without_a_value_is_refused(flags):
    assert "flag --kafka.group_id: no value follows" in refusal(*flags)


def test_a_flag_given_twice_is_refused():
    assert "given twice" in refusal("--http.port=0", "--http.port=1")
    assert "given twice" in refusal("--config=a.yaml", "--config=b.yaml")


def test_a_mappings_key_cannot_be_empty():
    assert "did you mean --kafka.options?" in refusal("--kafka.options.=x")
    assert "did you mean STREAMER_KAFKA__OPTIONS?" in refusal(env={"STREAMER_KAFKA__OPTIONS__": "x"})


def test_a_word_that_is_no_flag_is_refused():
    assert "'events': expected a flag" in refusal("events")


@pytest.mark.parametrize("setting", ["model.path", "kafka.group_id", "input.topics"])
def test_to_run_a_required_setting_must_be_there_and_not_empty(setting):
    others = [flag for flag in REQUIRED if not flag.startswith(f"--{setting}=")]
    for flags in (others, [*others, f"--{setting}="]):
        with pytest.raises(ConfigError) as error:
            load_settings(flags, {})
        assert str(error.value).startswith(f"{setting}: not set")
        assert "STREAMER_" + setting.upper().replace(".", "__") in str(error.value)


def test_what_is_required_is_enough_to_run():
    assert load_settings(REQUIRED, {}).input.topics == ("events",)


def test_every_problem_is_reported_at_once(file):
    config = file("kafka: {groupid: g}\ninput: {max_gap_steps: -1}")
    message = refusal(
        config, "--http.port=x", "--no.such=1", env={"STREAMER_NO": "1"}, required=("model.path", "input.topics")
    )
    assert [line.split(":")[0].split(" (")[0] for line in message.splitlines()] == [
        "kafka.groupid",
        "environment variable STREAMER_NO",
        "flag --no.such",
        "model.path",
        "input.topics",
        "input.max_gap_steps",
        "http.port",
    ]


def test_a_contradiction_is_reported_beside_an_unknown_name(file):
    message = refusal(file("outputs: {}"), "--input.topics=a", "--output.topic=a")
    assert [line.split(" ")[0] for line in message.splitlines()] == ["outputs", "output.topic"]


# settings that contradict each other


@pytest.mark.parametrize(
    ("flags", "subject"),
    [
        (["--input.topics=a", "--output.topic=a"], "output.topic (flag --output.topic)"),
        (["--output.dead_letter_topic=forecasts"], "output.dead_letter_topic (flag --output.dead_letter_topic)"),
        (["--input.topics=a,b", "--output.dead_letter_topic=b"], "output.dead_letter_topic"),
        (["--input.fields.ts=$timestamp", "--input.fields.ts_unit=s"], "input.fields.ts_unit"),
        (["--input.fields.value=ts"], "input.fields"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_a_remedy(flags, subject):
    message = refusal(*flags)
    assert message.startswith(subject)
    assert "; " in message


# secrets


@pytest.mark.parametrize(
    "text",
    [
        f"kafka: {{options: {{sasl_plain_password: [{SECRET}]}}}}",
        f"kafka: {{options: {{sasl_plain_password: {{a: {SECRET}}}}}}}",
        f"kafka: {{optoins: {{sasl_plain_password: {SECRET}}}}}",
        f"kafka: {{options: {SECRET}}}",
        f"kafka: {SECRET}",
        f"kafka:\n  options:\n    sasl_plain_password: *{SECRET}\n",
        f"kafka:\n  options:\n    sasl_plain_password: !{SECRET} x\n",
        f"kafka:\n  options:\n    sasl_plain_password: {{{SECRET}\n",
        f"kafka:\n  options:\n    sasl_plain_password: '{SECRET}\n",
    ],
)
def test_no_refusal_of_a_file_shows_a_secret(file, text):
    assert SECRET not in refusal(file(text))


@pytest.mark.parametrize(
    ("flags", "env"),
    [
        ([f"--kafka.options={SECRET}"], {}),
        ([f"--kafka.option.sasl_plain_password={SECRET}"], {}),
        ([f"--kafka.options.bootstrap_servers={SECRET}"], {}),
        ([], {"STREAMER_KAFKA__OPTIONS": f'{{"a": ["{SECRET}"]}}'}),
        ([], {"STREAMER_KAFKA_OPTIONS__PASSWORD": SECRET}),
    ],
)
def test_no_refusal_of_a_flag_or_variable_shows_a_secret(flags, env):
    assert SECRET not in refusal(*flags, env=env)


def test_a_password_that_yaml_reads_as_a_number_is_refused_without_showing_it(file):
    message = refusal(file("kafka: {options: {sasl_plain_password: 8150815}}"))
    assert "put it in quotes" in message
    assert "8150815" not in message


def test_settings_can_be_logged_without_their_secrets():
    settings = load(f"--kafka.options.sasl_plain_password={SECRET}")
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in shown
        assert "***" in shown
    assert settings.kafka.client_options() == {"sasl_plain_password": SECRET}


def test_a_section_made_directly_hides_what_it_refuses():
    with pytest.raises(ValidationError) as error:
        KafkaSettings(options={"sasl_plain_password": [SECRET]})  # type: ignore[dict-item]
    assert SECRET not in str(error.value)


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
    kinds = {int: "whole number", float: "number", float | None: "number or null", str: "text"}
    return kinds.get(annotation, "mapping" if option.is_mapping else "list of names")


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
