"""The forwarder process as fixtures: one for all tests that leave it as it was, and fresh ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forwarder_links import namespaces
from forwarder_process import Ring, Router

from services.common.endpoints import prepare_run_dir


@contextmanager
def surroundings(directory: Path) -> Iterator[Router]:
    """Everything but the forwarder's process."""
    with namespaces() as spaces:
        router = Router(prepare_run_dir(directory / "run"), spaces)
        try:
            yield router
        finally:
            router.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A forwarder for all tests that leave it as it was."""
    with surroundings(tmp_path_factory.mktemp("shared")) as router:
        router.start_forwarder()
        yield router


@pytest.fixture
def router(running: Router) -> Iterator[Router]:
    running.mark()
    yield running
    running.check_balance()
    for path in running.endpoints.rings.glob("*"):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Router]:
    with surroundings(tmp_path) as router:
        yield router
        router.check_balance()


@pytest.fixture
def fresh(idle: Router) -> Router:
    """A forwarder of its own, for a test that changes it."""
    idle.start_forwarder()
    return idle


@pytest.fixture
def ring(router: Router) -> Ring:
    return Ring(router, "r0", router.index(0))


@pytest.fixture
def fresh_ring(fresh: Router) -> Ring:
    return Ring(fresh, "r0", fresh.index(0))
