"""After every test with a lab of routers: each frame that a router received or made has ended in one fate."""

from collections.abc import Iterator

import pytest
from router_lab import running_labs


@pytest.fixture(autouse=True)
def every_frame_has_a_fate() -> Iterator[None]:
    yield
    for lab in running_labs():
        for control in lab.controls:
            control.settle()
