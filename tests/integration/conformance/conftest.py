"""The conformance suite's network."""

from collections.abc import Iterator

import pytest

from conformance.network import Load, Network
from conformance.options import option
from conformance.router import running


@pytest.fixture(scope="package")
def network(request: pytest.FixtureRequest) -> Iterator[Network]:
    with running(option(request.config, "--router", "hopwire")) as router:
        made = Network(router)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="package")
def load(request: pytest.FixtureRequest, network: Network) -> Iterator[Load | None]:
    if not option(request.config, "--with-load", default=False):
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
