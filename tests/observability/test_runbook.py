"""The runbook: a section for every alert and no other, each with what it means, what to look at and what to do."""

import re

from tests.observability.prometheus import ALERTS, ROOT
from tests.observability.test_alerts import RULES

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", RUNBOOK, re.MULTILINE))


def test_every_alert_has_its_section_and_every_section_its_alert():
    assert list(SECTIONS) == list(RULES)


def test_an_alert_links_to_its_section():
    for name, rule in RULES.items():
        assert rule["annotations"]["runbook_url"] == f"RUNBOOK#{name.lower()}"


def test_a_section_says_what_it_means_what_to_look_at_and_what_to_do():
    for name, text in SECTIONS.items():
        assert [word for word in ("**Means**", "**Look at**", "**do**", "**Do**") if word in text] in (
            ["**Means**", "**Look at**", "**Do**"],
            ["**Means**", "**Look at**", "**do**"],
        ), name


def test_metrics_named_in_runbook_and_alerts_are_documented():
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for text in (RUNBOOK, ALERTS.read_text()):
        for name in set(re.findall(r"\b(?:streamer|process)_[a-z_]+_[a-z]+\b", text)):
            assert f"`{name.removesuffix('_bucket')}`" in documented, name
