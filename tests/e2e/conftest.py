"""The lab, built once for all tests; what was measured stands at the end of the run."""

from collections.abc import Iterator

import pytest
from lab import IMAGES, ComposeLab

_figures: dict[str, str] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Building takes minutes, and everything here needs an engine."""
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(1500))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    if _figures:
        terminalreporter.section("figures")
        for name, value in _figures.items():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def engine() -> Iterator[ComposeLab]:
    """Yield the lab on the engine, with all images built and nothing running."""
    lab = ComposeLab()
    lab.prepare()
    lab.down()
    for name in IMAGES:
        megabytes = lab.client.images.get(f"hopwire/{name}").attrs["Size"] / 1e6
        lab.figures[f"image hopwire/{name}"] = f"{megabytes:.0f} MB"
    yield lab
    _figures.update(lab.figures)
    lab.down()


@pytest.fixture
def lab(engine: ComposeLab) -> ComposeLab:
    """Return the lab, up and healthy, whatever the test before it did to it."""
    engine.run("docker", "compose", "up", "--detach")
    engine.wait_healthy()
    return engine
