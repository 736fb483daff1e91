"""After each test its networks close what they hold: mapped files, each of which is a descriptor of this process."""

from collections.abc import Iterator

import arp_network
import forwarder_network
import pytest


@pytest.fixture(autouse=True)
def networks_are_closed() -> Iterator[None]:
    yield
    for opened in (arp_network.opened, forwarder_network.opened):
        for network in tuple(opened):
            network.close()
