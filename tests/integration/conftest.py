"""One running router for all tests that leave it as it was, and after every test the question where its frames are.

Also the options of the conformance suites, and what they write down for the scorecard.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conformance.options import option
from router_lab import RouterLab, running_labs, started
from suites import row_of

from services.launcher.lab.topologies import PAIR


@pytest.fixture(scope="session")
def pair() -> Iterator[RouterLab]:
    """host1 - router - host2, the router running hopwire without configuration."""
    with started(PAIR, "p") as lab:
        yield lab


@pytest.fixture(autouse=True)
def every_frame_has_a_fate() -> Iterator[None]:
    """Check after each test that what the routers received and made went out, or is counted for what became of it."""
    yield
    for lab in running_labs():
        for control in lab.controls:
            control.settle()


# --- the conformance suites -------------------------------------------------------------------------------------------

_OUTCOMES: pytest.StashKey[dict[str, dict[str, str]]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--router", choices=["hopwire", "kernel"], default="hopwire", help="the router under test")
    group.addoption("--with-load", action="store_true", help="keep 20,000 datagrams a second going beside the tests")
    group.addoption("--results", metavar="FILE", help="write each test's row and outcome into FILE, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "linux_differs(reason): a row on which Linux is known to differ")
    config.stash[_OUTCOMES] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Need root for all; expect the kernel to fail where it is known to differ."""
    for item in items:
        if row_of(item.path, item.name) is None:
            continue
        item.add_marker(pytest.mark.root)
        item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"))
        differs = item.get_closest_marker("linux_differs")
        if differs and option(config, "--router", "hopwire") == "kernel":
            item.add_marker(pytest.mark.xfail(reason=differs.args[0], strict=False))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Remember the outcome: `passed`, `failed`, `skipped`, or `differs` where the kernel was known to."""
    report = yield
    row = row_of(item.path, item.name)
    if row is not None and (report.when == "call" or report.outcome != "passed"):
        outcome = "differs" if report.outcome == "skipped" and hasattr(report, "wasxfail") else report.outcome
        outcomes = item.config.stash[_OUTCOMES]
        if outcomes.get(item.nodeid, {}).get("outcome") != "failed":
            outcomes[item.nodeid] = {"row": row, "outcome": outcome}
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    file = option(session.config, "--results", None)
    if file:
        Path(file).write_text(json.dumps(list(session.config.stash[_OUTCOMES].values())), encoding="utf-8")
