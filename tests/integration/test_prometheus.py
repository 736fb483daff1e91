"""A real Prometheus scrapes a router under traffic: every panel's and every rule's query has a result."""

import json
import math
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from router_lab import Control, RouterLab, second_address, started, wait_for
from router_traffic import Pinger

from services.common import netns
from services.launcher.lab.topologies import PAIR

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

MONITORING: Final = Path(__file__).parents[2] / "monitoring"
ADDRESS: Final = "127.0.0.1:9190"
LIMIT_S: Final = 120.0
_COMPARISON: Final = re.compile(r"(.*) (==|!=|>|<|>=|<=) [0-9.]+", re.DOTALL)


class Prometheus:
    """The server with the files of `monitoring/`, but every second, in the router's namespace."""

    def __init__(self, lab: RouterLab, folder: Path) -> None:
        server = shutil.which("prometheus")
        assert server is not None, "Debian's package prometheus is missing; .ci/run installs it"
        self.namespace = lab.namespace("router")
        shutil.copytree(MONITORING / "prometheus", folder / "etc")
        path = folder / "etc" / "prometheus.yml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        settings["scrape_configs"][0]["static_configs"][0]["targets"] = ["127.0.0.1:9100"]
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        command = [server, f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
        self.errors = folder / "errors"
        with self.errors.open("w", encoding="utf-8") as errors:
            self.process = lab.popen(
                "router", [*command, f"--web.listen-address={ADDRESS}"], stdout=errors, stderr=subprocess.STDOUT
            )
        wait_for("Prometheus is ready", self._is_ready, LIMIT_S)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.errors.read_text(encoding="utf-8")
        try:
            return "Ready" in self._get("/-/ready")
        except OSError:
            return False

    def _get(self, path: str) -> str:
        with netns.inside(self.namespace), urllib.request.urlopen(f"http://{ADDRESS}{path}", timeout=30) as answer:
            text: str = answer.read().decode()
            return text

    def ask(self, path: str, **params: str) -> Any:
        answer = json.loads(self._get(f"/api/v1/{path}?{urllib.parse.urlencode(params)}"))
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, expression: str) -> list[float]:
        """Return the numbers that a query has now."""
        result = self.ask("query", query=expression)["result"]
        return [number for one in result if not math.isnan(number := float(one["value"][1]))]


@pytest.fixture(scope="module")
def lab() -> Iterator[RouterLab]:
    with started(PAIR, "m") as made:
        yield made


@pytest.fixture(scope="module")
def prometheus(lab: RouterLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    server = Prometheus(lab, tmp_path_factory.mktemp("prometheus"))
    yield server
    lab.end(server.process)


@pytest.fixture
def traffic(lab: RouterLab) -> Iterator[None]:
    """Let the router forward, drop, and ask in vain for a neighbour."""
    with ExitStack() as stack:
        for host, destination in (("host1", "192.168.0.2"), ("host2", "10.99.99.99"), ("host1", "192.168.0.77")):
            stack.enter_context(Pinger(lab, host, destination))
        yield


def stir(lab: RouterLab, control: Control) -> None:
    """Let a route come and go, and an address, for which control reads the kernel's tables again."""
    control.change("route", "add", "10.77.0.0/16", "via", "192.168.0.2")
    control.change("route", "del", "10.77.0.0/16")
    with second_address(lab, "router", "192.168.0.200/24", "eth1"):
        pass


def expect_data(lab: RouterLab, prometheus: Prometheus, expressions: list[str]) -> None:
    """Wait until every query has a result that is a number."""
    missing = list(expressions)

    def all_there() -> bool:
        stir(lab, lab.control())
        missing[:] = [expression for expression in missing if not prometheus.values(expression)]
        return not missing

    try:
        wait_for("every query has data", all_there, LIMIT_S)
    except AssertionError:
        raise AssertionError("\n".join(["no data:", *missing])) from None


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize(
    "path", sorted((MONITORING / "grafana" / "dashboards").glob("*.json")), ids=lambda path: path.stem
)
def test_every_panel_has_data(lab: RouterLab, prometheus: Prometheus, path: Path) -> None:
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    for name, value in (("$router", ".+"), ("$__rate_interval", "20s"), ("$__range", "1m")):
        expressions = [expression.replace(name, value) for expression in expressions]
    assert expressions
    assert not any("$" in expression for expression in expressions)
    expect_data(lab, prometheus, expressions)


@pytest.mark.usefixtures("traffic")
def test_every_rule_has_data(lab: RouterLab, prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    written = [
        rule["record"] if "record" in rule else rule["expr"]
        for path in sorted((MONITORING / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) == len(written)
    expressions = []
    for expression in written:
        comparison = _COMPARISON.fullmatch(expression)
        expressions.append(comparison[1] if comparison else expression)
    expect_data(lab, prometheus, expressions)
    states = {rule["name"]: rule["health"] for group in prometheus.ask("rules")["groups"] for rule in group["rules"]}
    assert set(states.values()) == {"ok"}, states


@pytest.mark.usefixtures("traffic")
def test_a_counter_never_falls(lab: RouterLab, prometheus: Prometheus) -> None:
    before = prometheus.values("sum (hopwire_received_frames_total)")
    for instance in ("ingress-eth0", "forwarder", "arp", "control"):
        lab.control().kill(instance)
    wait_for(
        "the restarts are counted",
        lambda: (
            len(prometheus.values("hopwire_service_restarts_total > 0")) == 4
            and prometheus.values("sum (hopwire_received_frames_total)") > before
        ),
        LIMIT_S,
    )
    series = prometheus.ask("query", query='{__name__=~"hopwire_.*_(total|count|sum|bucket)"}[5m]')["result"]
    assert len(series) > 300
    fell = [
        one["metric"]
        for one in series
        for (_, earlier), (_, later) in pairwise(one["values"])
        if float(later) < float(earlier)
    ]
    assert fell == []


def test_the_exposition_is_as_promtool_wants_it(lab: RouterLab) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None
    with (
        netns.inside(lab.namespace("router")),
        urllib.request.urlopen("http://127.0.0.1:9100/metrics", timeout=30) as answer,
    ):
        text = answer.read()
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_health_and_readiness(lab: RouterLab) -> None:
    for path, body in (("healthz", "ok\n"), ("readyz", "ready\n")):
        with (
            netns.inside(lab.namespace("router")),
            urllib.request.urlopen(f"http://127.0.0.1:9100/{path}", timeout=30) as answer,
        ):
            assert (answer.status, answer.read().decode()) == (200, body)
