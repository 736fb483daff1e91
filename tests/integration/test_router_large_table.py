"""A router with 50,000 routes: loaded, changed and read again while pings go through it."""

import os
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Address

import numpy as np
import numpy.typing as npt
import pytest
from router_lab import RouterLab, inside, kernel, started, wait_for
from router_traffic import Pinger

from services.common.bus import RpcRefusedError
from services.launcher.bench.internet_table import RouteLoader, Table, generated
from services.launcher.lab.topologies import PAIR

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.timeout(300),
]

LIMIT_S = 120.0
SHARE = 0.055
GATEWAYS = (int(IPv4Address("192.168.0.2")), int(IPv4Address("192.168.0.77")))
BURST = 2000
PINGS_S = 0.02


class Changing:
    """A kernel's large table, which the test changes, and what the forwarder says of it."""

    def __init__(self, lab: RouterLab) -> None:
        self.control = lab.control()
        self.table: Table = generated(SHARE)
        self.gateways = np.full(len(self.table), GATEWAYS[0], np.uint32)
        self.loader: RouteLoader = inside(lab, "router", RouteLoader)
        self._chance = np.random.default_rng(3)

    def load(self, rows: npt.NDArray[np.int64]) -> None:
        self.loader.replace(self.table.prefixes[rows], self.table.lengths[rows], self.gateways[rows])

    def change(self, rows: npt.NDArray[np.int64]) -> None:
        self.gateways[rows] ^= GATEWAYS[0] ^ GATEWAYS[1]
        self.load(rows)

    def check(self) -> None:
        """See that the forwarder agrees with the table, wherever one looks."""
        for row in [0, len(self.table) - 1, *self._chance.integers(0, len(self.table), 60).tolist()]:
            length = int(self.table.lengths[row])
            address = int(self.table.prefixes[row]) | int(self._chance.integers(0, 1 << 32)) & (0xFFFF_FFFF >> length)
            matched = self.table.matched(address)
            assert matched is not None
            expected = (f"{IPv4Address(matched[0])}/{matched[1]}", str(IPv4Address(self._gateway(*matched))))
            wait_for(f"{IPv4Address(address)} by {expected}", partial(self._is, address, expected), LIMIT_S)

    def _gateway(self, prefix: int, length: int) -> int:
        (row,) = np.flatnonzero((self.table.prefixes == prefix) & (self.table.lengths == length))
        return int(self.gateways[row])

    def _is(self, address: int, expected: tuple[str, str]) -> bool:
        try:
            route = self.control.ask("route.get", dst=str(IPv4Address(address)))
        except RpcRefusedError:  # no route yet, or a service that is being restarted
            return False
        # a gateway that is the destination itself is not shown
        return (route["prefix"], route.get("gateway", str(IPv4Address(address)))) == expected


@pytest.fixture(scope="module")
def large() -> Iterator[tuple[RouterLab, Changing]]:
    with started(PAIR, "t") as lab:
        changing = Changing(lab)
        yield lab, changing
        changing.loader.close()


def test_routes_come_change_and_are_read_again_under_traffic(large: tuple[RouterLab, Changing]) -> None:
    lab, changing = large
    everything = np.arange(len(changing.table))
    assert len(everything) > 48_000
    with Pinger(lab, "host1", "192.168.0.2", PINGS_S) as pinger:
        pinger.wait_for_replies(10)
        changing.load(everything)
        changing.check()
        for burst in np.array_split(np.random.default_rng(4).permutation(everything), len(everything) // BURST):
            changing.change(burst)
        changing.check()
        pinger.wait_for_replies(10)
        changing.control.kill("control")
        changing.check()
        changing.control.kill("forwarder")
        changing.check()
        pinger.wait_for_replies(10)


def test_an_interface_that_falls_takes_all_routes_along_and_brings_none_back(
    large: tuple[RouterLab, Changing],
) -> None:
    lab, changing = large
    destination = IPv4Address(int(changing.table.prefixes[-1]))  # a /32
    changing.load(np.arange(len(changing.table)))
    changing.check()
    with kernel(lab, "router") as netlink:
        (index,) = netlink.link_lookup(ifname="eth1")
        netlink.link("set", index=index, state="down")
        wait_for("no route is left", lambda: changing.control.route_kind(str(destination)) == "none", LIMIT_S)
        netlink.link("set", index=index, state="up")
    changing.load(np.arange(len(changing.table)))
    changing.check()
    lab.control().wait_until_ready(LIMIT_S)
