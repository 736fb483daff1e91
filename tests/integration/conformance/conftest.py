"""The conformance suite's options, its network, and what it writes down for the scorecard."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.network import Load, Network
from conformance.router import running
from conformance.rows import row_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--router", choices=["hopwire", "kernel"], default="hopwire", help="the router under test")
    group.addoption("--with-load", action="store_true", help="keep 20,000 datagrams a second going beside the tests")
    group.addoption("--results", metavar="FILE", help="write each test's row and outcome into FILE, as JSON")


def _option(config: pytest.Config, name: str, default: Any) -> Any:
    return config.getoption(name, default)  # not registered where pytest runs on all tests


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "linux_differs(reason): a row on which Linux is known to differ")
    config.stash[_OUTCOMES] = {}


_OUTCOMES: pytest.StashKey[dict[str, dict[str, str]]] = pytest.StashKey()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Need root for all; expect the kernel to fail where it is known to differ."""
    for item in items:
        if row_of(item.name) is None or Path(__file__).parent not in item.path.parents:
            continue
        item.add_marker(pytest.mark.root)
        item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"))
        differs = item.get_closest_marker("linux_differs")
        if differs and _option(config, "--router", "hopwire") == "kernel":
            item.add_marker(pytest.mark.xfail(reason=differs.args[0], strict=False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember the outcome: `passed`, `failed`, `skipped`, or `differs` where the kernel was known to."""
    report = yield
    row = row_of(item.name)
    if row is not None and (report.when == "call" or report.outcome != "passed"):
        outcome = "differs" if report.outcome == "skipped" and hasattr(report, "wasxfail") else report.outcome
        outcomes = item.config.stash[_OUTCOMES]
        if outcomes.get(item.nodeid, {}).get("outcome") != "failed":
            outcomes[item.nodeid] = {"row": row, "outcome": outcome}
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = _option(session.config, "--results", None)
    if file:
        Path(file).write_text(json.dumps(list(session.config.stash[_OUTCOMES].values())), encoding="utf-8")


@pytest.fixture(scope="package")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with running(_option(request.config, "--router", "hopwire")) as router:
        made = Network(router)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="package")
def load(request: pytest.FixtureRequest, network: Network) -> Iterator[Load | None]:
    if not _option(request.config, "--with-load", default=False):
        yield None
        return
    running_load = Load(network)
    running_load.pause()
    try:
        yield running_load
    finally:
        running_load.stop()
        network.router.settle()


@pytest.fixture
def net(network: Network, load: Load | None) -> Iterator[Network]:
    """The network, with nothing under way and nothing heard yet. The load pauses while frames are counted after it."""
    network.forget()
    if load:
        load.go_on()
    yield network
    if load:
        load.pause()
