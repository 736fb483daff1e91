"""The documents that follow from the code: docs/metrics.md, the dashboards, and what they and the alerts ask for."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.control.monitoring import reference
from services.control.monitoring.collector import MetricsCollector
from services.control.monitoring.snapshot import InterfaceMetrics, MetricsSnapshot, ServiceMetrics

REPOSITORY = Path(__file__).parents[3]
MONITORING = REPOSITORY / "monitoring"
RULES = sorted((MONITORING / "prometheus" / "rules").glob("*.yml"))
DASHBOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))


def exported() -> set[str]:
    """Return the names of all series that control exports."""
    collector = MetricsCollector()
    collector.snapshot = MetricsSnapshot(
        interfaces=(InterfaceMetrics("eth0", True, 1500, True),),
        services=tuple(ServiceMetrics(name, name) for name in ("control", "arp", "forwarder", "ingress")),
    )
    return {sample.name for metric in collector.collect() for sample in metric.samples}


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for path in RULES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def test_the_list_of_metrics_is_that_of_the_code() -> None:
    assert (REPOSITORY / "docs" / "metrics.md").read_text(encoding="utf-8") == reference.text(), "run: make metrics"


def test_the_list_has_every_metric_and_every_label() -> None:
    text = reference.text()
    for name in exported():
        assert f"`{re.sub('_(bucket|count|sum)$', '', name)}`" in text
    collector = MetricsCollector()
    labels = {label for metric in collector.collect() for sample in metric.samples for label in sample.labels}
    for label in labels - {"le"}:
        assert f"\n| `{label}` | " in text


def test_the_dashboards_are_those_of_the_generator(tmp_path: Path) -> None:
    subprocess.run([sys.executable, MONITORING / "grafana" / "generate.py", tmp_path], check=True, timeout=60)
    written = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS}
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == written
    names = {"overview", "drops", "interfaces", "routes", "neighbours", "pipeline", "nat", "services"}
    assert {path.stem for path in DASHBOARDS} == names


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_well_formed(path: Path) -> None:
    dashboard = json.loads(path.read_text(encoding="utf-8"))
    sources = MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    (source,) = yaml.safe_load(sources.read_text(encoding="utf-8"))["datasources"]
    assert dashboard["uid"] == f"hopwire-{path.stem}"
    used: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in cells) < 24
        assert not used & cells, f"{panel['title']} lies on another panel"
        used |= cells
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": source["uid"]}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_name_in_a_query_is_exported_or_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    expressions = [rule["expr"] for rule in rules()]
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text(encoding="utf-8"))
        expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 80
    for expression in expressions:
        names = set(re.findall(r"(?<![\w:])[a-z]*:?hopwire_[a-z0-9_:]+", expression))
        assert names <= exported() | recorded, expression


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("critical", "warning", "info")
            assert set(rule["annotations"]) == {"summary", "action"}


def test_every_alert_is_made_to_fire() -> None:
    cases = yaml.safe_load((MONITORING / "prometheus" / "tests" / "alerts.yml").read_text(encoding="utf-8"))["tests"]
    samples = [one for case in cases for test in case["promql_expr_test"] for one in test["exp_samples"]]
    fired = {name for sample in samples for name in re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fired == {rule["alert"] for rule in rules() if "alert" in rule}


def test_promtool_agrees() -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "Debian's package prometheus is missing; .ci/run installs it"
    prometheus = MONITORING / "prometheus"
    for command in (
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "tests/alerts.yml"],
    ):
        done = subprocess.run(
            [promtool, *command], cwd=prometheus, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
