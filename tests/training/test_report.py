import re
from dataclasses import replace

import pytest

from tests.training.conftest import config_of, hourly, untrained
from training.cost import fitting_speed
from training.report import write_report

SPLIT = {"train_end": 200, "validation_end": 300}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    config = config_of(split=SPLIT, model={"attention": 4, "note": 3})
    series = [hourly(400, i, f"stream <{i}> 電") for i in range(3)]
    fitted = replace(untrained(config, series), history=((10, 0.9, 0.8), (20, 0.7, 0.75)))
    output = tmp_path_factory.mktemp("report") / "report.html"
    write_report(fitted, series, output)
    return output


def test_the_page_needs_nothing_from_elsewhere(report):
    text = report.read_text()
    sources = re.findall(r"(?:src|href)=\"([^\"]{0,30})", text)
    assert sources
    assert all(s.startswith("data:image/png;base64,") for s in sources)


def test_the_page_shows_scores_skill_calibration_fans_questions_attention_losses_and_data(report):
    text = report.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        "Scores on the test part", "Skill per lead", "Calibration", "Forecasts", "Questions", "Attention", "Training",
        "Data",
    ]  # fmt: skip
    assert "what 10% of its training values exceed" in text
    assert "stream &lt;1&gt;" in text
    assert "stream <1>" not in text
    assert text.count("<img") == 8


def test_each_picture_also_lies_beside_the_page(report):
    names = sorted(p.name for p in report.parent.glob("*.png"))
    assert names == [
        f"report-{name}.png"
        for name in ("attention", "data", "fan-best", "fan-median", "fan-worst", "losses", "reliability", "skill")
    ]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in report.parent.glob("*.png"))


def test_fitting_speed_times_the_network_and_a_plain_layer():
    ours, plain = fitting_speed(config_of(split=SPLIT), [hourly(400)])
    assert min(ours, plain) > 0
