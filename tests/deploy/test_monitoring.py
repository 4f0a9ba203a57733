"""Alert rules that promtool has tested, metrics that exist, and sections of the runbook that do."""

import re
import subprocess
from collections.abc import Callable

import pytest

from shared.database import Database
from shared.settings import ROOT, Settings, documented
from tests.exposed import exposed
from tests.servers import needs

FOLDER = ROOT / "deploy/monitoring"
RUNBOOK = (ROOT / "deploy/RUNBOOK.md").read_text(encoding="utf-8")
ALERTS = (FOLDER / "alerts.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("check", "config"), "prometheus.yml"),
        (("check", "config", "--syntax-only"), "compose.yml"),  # the key's file is made later
        (("test", "rules"), "alerts.test.yml"),
    ],
)
def test_promtool_finds_nothing_wrong(command: tuple[str, str], file: str) -> None:
    done = subprocess.run(
        [needs("promtool", "prometheus"), *command, FOLDER / file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    tested = (FOLDER / "alerts.test.yml").read_text(encoding="utf-8")
    for alert in re.findall(r"- alert: (\w+)", ALERTS):
        assert re.search(rf"alertname: {alert}}}", tested), f"{alert} is never tested to be silent"
        assert re.search(rf"alertname: {alert}\n +exp_alerts:", tested), f"{alert} is never tested to speak"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_alerts_name_metrics_that_exist(database: Database, settings: Callable[..., Settings]) -> None:
    assert set(re.findall(r"medq_\w+", ALERTS)) <= exposed(database, settings())


def test_alerts_name_sections_of_the_runbook() -> None:
    sections = set(re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE))
    named = set(re.findall(r'runbook: "RUNBOOK.md: (.+)"', ALERTS))
    assert named
    assert named <= sections


def test_the_runbook_names_settings_that_exist() -> None:
    known = {name for name, _, _ in documented()}
    assert set(re.findall(r"MEDQ_[A-Z_]+", RUNBOOK)) <= known
