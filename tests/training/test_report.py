import re
from dataclasses import replace

import pytest
import torch

from tests.training.conftest import config_of, hourly, untrained
from training.backtest import backtest
from training.cost import fitting_speed
from training.network import Forecaster
from training.pictures import skills_by_lead
from training.report import write_report
from training.stepping import TorchModel

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
    assert text.count("<img") == 9


def test_each_picture_also_lies_beside_the_page(report):
    names = {p.name.removeprefix("report-").removesuffix(".png") for p in report.parent.glob("*.png")}
    expected = "attention data fan-best fan-median fan-worst losses reliability skill skill-losses"
    assert names == set(expected.split())
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in report.parent.glob("*.png"))


def test_fitting_speed_counts_the_same_steps_of_the_network_and_of_a_plain_layer_that_both_learn(monkeypatch):
    learned = []

    def timed(call, calls):
        before = [p.detach().clone() for p in trained[len(learned)]()]
        call()
        learned.append(any(not torch.equal(a, b) for a, b in zip(before, trained[len(learned)](), strict=True)))
        return (2.0, 0.5)[len(learned) - 1]

    networks, optimizers = [], []
    trained = [lambda: networks[0].parameters(), lambda: optimizers[-1].param_groups[0]["params"]]
    monkeypatch.setattr("training.cost.Forecaster", lambda *a: networks.append(Forecaster(*a)) or networks[0])
    plain = torch.optim.AdamW
    monkeypatch.setattr("torch.optim.AdamW", lambda *a, **k: optimizers.append(plain(*a, **k)) or optimizers[-1])
    monkeypatch.setattr("training.cost.seconds", timed)
    steps = 8 * 48  # a batch of windows
    assert fitting_speed(config_of(split=SPLIT), [hourly(400)]) == (steps / 2.0, steps / 0.5)
    assert learned == [True, True]


def test_the_skill_at_a_lead_is_the_share_of_the_naive_loss_that_is_saved_there():
    config, series = config_of(split=SPLIT), [hourly(400, i, f"s{i}") for i in range(2)]
    fitted = untrained(config, series)
    result = backtest(TorchModel(fitted.network, fitted.manifest), series, config.split, stride=9)
    skills = skills_by_lead(result)
    losses = {f: result.of(f, "mean", 3).sql for f in result.forecasters}
    assert skills["seasonal naive"][2] == pytest.approx(1 - losses["model"] / losses["seasonal naive"])
    assert skills["last value"][2] == pytest.approx(1 - losses["model"] / losses["last value"])
    assert skills["better"][2] == pytest.approx(min(skills["seasonal naive"][2], skills["last value"][2]))
    assert {len(values) for values in skills.values()} == {6}
