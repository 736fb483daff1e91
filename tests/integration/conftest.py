"""One running router for all tests that leave it as it was, and after every test the question where its frames are."""

from collections.abc import Iterator

import pytest
from router_lab import RouterLab, running_labs, started

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
