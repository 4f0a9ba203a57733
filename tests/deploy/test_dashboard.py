"""Grafana's dashboard: its queries are PromQL, and ask for metrics and labels that /metrics has."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shared.database import Database
from shared.settings import ROOT, Settings
from tests.exposed import exposed
from tests.servers import needs

GRAFANA = ROOT / "deploy/monitoring/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/medq.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
# What a MedQ without any workers' figures would leave undrawn
EXPECTED = (
    "queue_jobs", "oldest_waiting_seconds", "jobs", "stage_seconds", "job_seconds", "microbatch_fill", "decode_seconds",
    "forward_seconds", "device_busy_seconds", "llm_seconds", "llm_tokens", "swept", "webhook_seconds", "http_request",
    "workers",
)  # fmt: skip


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_panels_ask_for_metrics_that_exist(database: Database, settings: Callable[..., Settings]) -> None:
    known = exposed(database, settings())
    for query in QUERIES:
        assert set(re.findall(r"medq_\w+", query)) <= known, query
    for name in EXPECTED:
        assert any(f"medq_{name}" in query for query in QUERIES), name


def test_queries_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [needs("promtool", "prometheus"), "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_several_apis_tell_alike_is_counted_once() -> None:
    of_all = r"medq_(?:queue_jobs|jobs|workers|stage|job_seconds|microbatch|forward|decode|device|llm|swept)"
    for query in QUERIES:
        if re.search(rf"sum.*\({of_all}|rate\({of_all}", query):
            assert "max without (instance, pod)" in query, query


def test_panels_have_places_and_the_datasource_is_there() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["datasource"]["uid"] for panel in PANELS} == {source["uid"]}
    places = [tuple(panel["gridPos"][side] for side in "xywh") for panel in DASHBOARD["panels"]]
    for number, (x, y, w, h) in enumerate(places):
        assert x + w <= 24
        for ox, oy, ow, oh in places[number + 1 :]:
            assert x + w <= ox or ox + ow <= x or y + h <= oy or oy + oh <= y, (number, (x, y))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
