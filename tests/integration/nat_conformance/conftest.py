"""The translating network, and the question after each test whether all that was heard is right."""

from collections.abc import Iterator

import pytest
from conformance.options import option

from nat_conformance.network import NatNetwork
from nat_conformance.router import translating


@pytest.fixture(scope="package")
def network(request: pytest.FixtureRequest) -> Iterator[NatNetwork]:
    with translating(option(request.config, "--router", "hopwire")) as router:
        made = NatNetwork(router)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def net(network: NatNetwork) -> Iterator[NatNetwork]:
    """The network, with nothing heard yet."""
    network.forget()
    yield network
    network.check_all()
