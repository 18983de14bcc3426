"""The table of the recipe's parts: a row per part, kept as it grows."""

import pytest

import training.ablation
from streamer.errors import ConfigError
from tests.training.conftest import HOUR, START, config_of, hourly
from training.__main__ import main
from training.ablation import Table, ablate, as_markdown

SPLIT = {"train_end": 200, "validation_end": 300}
TWO = {"the whole recipe": {}, "SimpleRNN": {"model": {"cell": "rnn"}}}


@pytest.fixture(scope="module")
def quick():
    return config_of(split=SPLIT, training={"steps": 2, "validate_every": 2})


@pytest.fixture(scope="module")
def groups(quick):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.ablation, "CHANGES", TWO)
        return list(ablate(quick, [hourly(400)], stride=10))


def test_it_has_a_row_per_part_and_per_naive_forecast(quick, groups):
    rows = [row for group in groups for row in group]
    assert [r.variant for r in rows] == ["the whole recipe", "seasonal naive", "last value", "SimpleRNN"]
    table = as_markdown(quick, rows, "training ablation small.yaml")
    assert f"| SimpleRNN | {rows[3].score.sql:.3f} |" in table
    assert "    training ablation small.yaml\n" in table


def test_rows_that_were_kept_come_back_as_they_were_and_are_not_fitted_again(quick, groups, tmp_path, monkeypatch):
    monkeypatch.setattr(training.ablation, "CHANGES", TWO)
    Table(tmp_path / "t", {"data": "x"}, resume=False).add(groups[0])
    table = Table(tmp_path / "t", {"data": "x"}, resume=True)
    assert table.rows == groups[0]
    (added,) = ablate(quick, [hourly(400)], 10, done=table.rows)
    assert added == groups[1]


def test_rows_of_another_table_are_not_taken(groups, tmp_path):
    path = tmp_path / "t"
    with pytest.raises(ConfigError, match="no table to go on with"):
        Table(path, {"data": "x"}, resume=True)
    Table(path, {"data": "x"}, resume=False).add(groups[0])
    with pytest.raises(ConfigError, match="other settings, data or origins"):
        Table(path, {"data": "y"}, resume=True)
    path.write_text("no")
    with pytest.raises(ConfigError, match="not a table"):
        Table(path, {"data": "x"}, resume=True)


def test_the_command_writes_its_table_and_goes_on_with_it(monkeypatch, tmp_path, tidy):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training.ablation, "CHANGES", {"the whole recipe": {}})
    tidy([("a", START + i * HOUR, float(i % 24)) for i in range(400)])
    (tmp_path / "small.yaml").write_text(config_of(split=SPLIT, training={"steps": 2}).model_dump_json())
    command = ["ablation", "small.yaml", "--data", "data.parquet", "--output", "table.md"]
    assert main(command) == 0
    first = (tmp_path / "table.md").read_text()
    assert "    training ablation small.yaml --data data.parquet --output table.md\n" in first
    monkeypatch.setattr(training.ablation, "CHANGES", TWO)
    assert main([*command, "--resume"]) == 0
    rows = [line.split("|")[1].strip() for line in (tmp_path / "table.md").read_text().splitlines() if "| " in line]
    assert rows == ["variant", "the whole recipe", "seasonal naive", "last value", "SimpleRNN"]
    whole = (tmp_path / "table.md").read_text()
    (tmp_path / "table.md").unlink()
    assert main([*command, "--resume"]) == 0
    assert (tmp_path / "table.md").read_text() == whole


def test_every_ablation_is_a_valid_config():
    for change in training.ablation.CHANGES.values():
        training.ablation.changed(config_of(), change)
