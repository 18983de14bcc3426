"""Settings that are refused: unknown names, wrong values, contradictions; and no refusal shows a secret."""

import pytest
from pydantic import ValidationError

from streamer.errors import ConfigError
from streamer.settings import KafkaSettings, load_settings

REQUIRED = ("--model.path=m.onnx", "--kafka.group_id=g", "--input.topics=events")
SECRET = "hunter2"


def refusal(*flags, env=None, required=()):
    with pytest.raises(ConfigError) as error:
        load_settings(flags, env or {}, required=required)
    return str(error.value)


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
        ("--kafka.client=librdkafka", "'kafka-python' or 'confluent'"),
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
    settings = load_settings([f"--kafka.options.sasl_plain_password={SECRET}"], {}, required=())
    for shown in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert SECRET not in shown
        assert "***" in shown
    assert settings.kafka.client_options() == {"sasl_plain_password": SECRET}


def test_a_section_made_directly_hides_what_it_refuses():
    with pytest.raises(ValidationError) as error:
        KafkaSettings(options={"sasl_plain_password": [SECRET]})  # type: ignore[dict-item]
    assert SECRET not in str(error.value)
