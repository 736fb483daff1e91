"""What the forwarder says of its own tables: `route.get` for a datagram with a source, and `fib`."""

from ipaddress import IPv4Address
from typing import Any

import pytest

from services.common.bus import RpcRefusedError
from services.common.messages import Interface, InterfaceAddress, Neighbour, NeighbourState, NextHop, Path, RouterState
from services.common.parameters import InterfacePolicy
from services.forwarder.questions import answer
from services.forwarder.tables import ForwardingTables

ETH0, ETH1, ETH2 = 5, 6, 7
GATEWAYS = ("10.0.1.9", "10.0.1.8")


def ip(text: str) -> int:
    return int(IPv4Address(text))


def interface(index: int, address: str) -> Interface:
    return Interface(
        index=index,
        name=f"eth{index - ETH0}",
        mac=bytes((2, 0, 0, 0, 0, index)),
        mtu=1500,
        up=True,
        addresses=[InterfaceAddress(address=ip(address), prefix_length=24)],
        policy=InterfacePolicy(reverse_path="strict"),
    )


@pytest.fixture
def tables() -> ForwardingTables:
    """10.0.0.0/24 on eth0, 10.0.1.0/24 on eth1, and 203.0.113.0/24 behind two gateways there."""
    made = ForwardingTables(flow_seed=1)
    hops = [NextHop(interface=ETH1, gateway=ip(gateway)) for gateway in GATEWAYS]
    records = [("10.0.0.0", 24, 1), ("10.0.1.0", 24, 2), ("203.0.113.0", 24, 3), ("10.0.0.1", 32, 4)]
    made.apply_router_state(
        RouterState(
            full=True,
            interfaces=[interface(ETH0, "10.0.0.1"), interface(ETH1, "10.0.1.1")],
            paths=[
                Path(id=1, kind="unicast", next_hops=[NextHop(interface=ETH0, gateway=0)]),
                Path(id=2, kind="unicast", next_hops=[NextHop(interface=ETH1, gateway=0)]),
                Path(id=3, kind="unicast", next_hops=hops, mtu=1400),
                Path(id=4, kind="local", next_hops=[]),
            ],
            routes=b"".join(
                ip(prefix).to_bytes(4, "little") + bytes((length,)) + path.to_bytes(4, "little")
                for prefix, length, path in records
            ),
        )
    )
    mac = bytes((2, 0, 0, 0, 1, 9))
    made.apply_neighbour_state(
        NeighbourState(full=True, neighbours=[Neighbour(interface=ETH1, address=ip(GATEWAYS[0]), mac=mac)])
    )
    made.take_used()
    return made


def get(tables: ForwardingTables, destination: str, **params: Any) -> Any:
    return answer(tables, 3, "route.get", {"dst": ip(destination), **params})


def test_sources_are_spread_over_the_next_hops_as_their_datagrams_would_be(tables: ForwardingTables) -> None:
    answers = [get(tables, "203.0.113.7", src=ip("10.0.0.0") + number) for number in range(2, 66)]
    assert {one["verdict"] for one in answers} == {"FORWARDED", "HANDED"}
    for one in answers:
        next_hop = str(IPv4Address(one["chosen"]["next_hop"]))
        assert one["interface"] == ETH0
        assert (one["prefix"], one["prefix_length"], one["mtu"]) == (ip("203.0.113.0"), 24, 1400)
        assert (one["verdict"] == "FORWARDED") == (one["mac"] is not None) == (next_hop == GATEWAYS[0])
    assert tables.take_used() == [], "a question is no use of a neighbour"


def test_the_reverse_path_check_of_the_interface(tables: ForwardingTables) -> None:
    assert get(tables, "203.0.113.7", src=ip("10.0.0.5"), interface=ETH0)["verdict"] in ("FORWARDED", "HANDED")
    assert get(tables, "203.0.113.7", src=ip("10.0.0.5"), interface=ETH1)["verdict"] == "DROP_REVERSE_PATH"
    assert get(tables, "203.0.113.7", src=ip("10.0.0.1"), interface=ETH0)["verdict"] == "DROP_MARTIAN_SOURCE"
    unknown = get(tables, "203.0.113.7", src=ip("192.0.2.1"))
    assert (unknown["verdict"], unknown["interface"]) == ("DROP_UNKNOWN_INTERFACE", 0)
    assert get(tables, "198.51.100.1", src=ip("10.0.0.5"))["verdict"] == "DROP_NO_ROUTE"


def test_without_a_source_there_is_no_verdict(tables: ForwardingTables) -> None:
    assert "verdict" not in get(tables, "203.0.113.7")


def test_the_size_of_the_tables(tables: ForwardingTables) -> None:
    sizes = answer(tables, 3, "fib", {})
    assert {name: sizes[name] for name in ("generation", "routes", "paths", "groups", "neighbours")} == {
        "generation": 3,
        "routes": 4,
        "paths": 4,
        "groups": 1,
        "neighbours": 1,
    }
    assert sizes["table_bytes"] > 4 << 24  # an entry of 4 bytes for each /24
    assert sizes["resident_bytes"] > 0


@pytest.mark.parametrize(
    "params", [{"dst": 1, "src": -1}, {"dst": 1, "src": "10.0.0.1"}, {"dst": 1, "interface": None}]
)
def test_questions_that_make_no_sense(tables: ForwardingTables, params: dict[str, Any]) -> None:
    with pytest.raises(RpcRefusedError) as refused:
        answer(tables, 0, "route.get", params)
    assert refused.value.error.code == "usage"
