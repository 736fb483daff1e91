"""The parameters of RPC methods: what is let through, and what a wrong one is answered with."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from services.common.bus import RpcRefusedError
from services.control.rpc_params import (
    AddressParams,
    DeviceFilter,
    LinkParams,
    NextHopSpec,
    NoParams,
    Params,
    RouteFilter,
    RouteQuestion,
    RouteSpec,
    checked,
)


def test_a_route_with_everything() -> None:
    spec = checked(
        RouteSpec,
        {
            "dst": "10.2.0.0/16",
            "type": "unicast",
            "via": "10.0.0.9",
            "dev": "eth0",
            "metric": 2**32 - 1,
            "mtu": 1400,
            "src": "10.0.0.1",
            "onlink": True,
            "proto": "bgp",
        },
    )
    assert spec.dst == IPv4Network("10.2.0.0/16")
    assert (spec.via, spec.src) == (IPv4Address("10.0.0.9"), IPv4Address("10.0.0.1"))
    assert (spec.metric, spec.mtu, spec.proto, spec.onlink) == (2**32 - 1, 1400, 186, True)


def test_short_forms() -> None:
    assert checked(RouteSpec, {"dst": "default"}).dst == IPv4Network("0.0.0.0/0")
    assert checked(RouteSpec, {"dst": "10.0.0.1"}).dst == IPv4Network("10.0.0.1/32")
    assert checked(RouteSpec, {"dst": "default", "proto": 0}).proto == 0
    assert checked(RouteSpec, {"dst": "default", "proto": "hopwire"}).proto == 200
    hops = checked(RouteSpec, {"dst": "default", "nexthops": [{"via": "10.0.0.9"}, {"dev": "eth0", "weight": 256}]})
    assert hops.nexthops == [
        NextHopSpec.model_construct(via=IPv4Address("10.0.0.9"), dev=None, weight=1),
        NextHopSpec.model_construct(via=None, dev="eth0", weight=256),
    ]
    assert checked(RouteFilter, {}).table == "main"
    assert checked(AddressParams, {"address": "10.0.0.1/24", "dev": "eth0"}).address == IPv4Interface("10.0.0.1/24")
    assert checked(LinkParams, {"dev": "e", "address": "02:00:00:00:00:0A"}).address == bytes((2, 0, 0, 0, 0, 10))
    assert checked(DeviceFilter, {}).dev is None


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        (RouteSpec, {}, "dst: missing"),
        (
            RouteSpec,
            {"dst": "10.0.0.0/33"},
            "dst: '10.0.0.0/33' is not a prefix such as 10.0.0.0/8, an IPv4",
        ),
        (RouteSpec, {"dst": "10.0.0.1/8"}, "dst: '10.0.0.1/8' has host bits set; the prefix is 10.0.0.0/8"),
        (RouteSpec, {"dst": 10}, "dst: 10 is not a prefix such as 10.0.0.0/8"),
        (RouteSpec, {"dst": "::/0"}, "dst: '::/0' is not a prefix"),
        (RouteSpec, {"dst": "default", "via": "300.0.0.1"}, "via: '300.0.0.1' is not an IPv4 address"),
        (RouteSpec, {"dst": "default", "metric": -1}, "metric: should be greater than or equal to 0"),
        (RouteSpec, {"dst": "default", "metric": 2**32}, "metric: should be less than or equal to 4294967295"),
        (RouteSpec, {"dst": "default", "metric": "5"}, "metric: should be a valid integer"),
        (RouteSpec, {"dst": "default", "metric": True}, "metric: should be a valid integer"),
        (
            RouteSpec,
            {"dst": "default", "proto": "no"},
            "proto: 'no' is not a routing protocol: a number of",
        ),
        (RouteSpec, {"dst": "default", "proto": True}, "proto: True is not a routing protocol"),
        (RouteSpec, {"dst": "default", "proto": 256}, "proto: 256 is not a routing protocol"),
        (RouteSpec, {"dst": "default", "type": "nat"}, "type: should be 'unicast', 'blackhole', "),
        (
            RouteSpec,
            {"dst": "default", "type": "blackhole", "dev": "eth0"},
            "a route of type blackhole has no via",
        ),
        (
            RouteSpec,
            {"dst": "default", "dev": "eth0", "nexthops": [{"dev": "e"}]},
            "give either via",
        ),
        (RouteSpec, {"dst": "default", "nexthops": [{}]}, "nexthops.0: a next hop needs via or dev"),
        (RouteSpec, {"dst": "default", "nexthops": [{"dev": "e", "weight": 0}]}, "nexthops.0.weight: should be"),
        (RouteSpec, {"dst": "default", "dev": "sixteen-bytes-xx"}, "dev: String should have at most 15 characters"),
        (
            RouteSpec,
            {"dst": "default", "metrik": 1},
            "metrik: no such parameter; there are: dst, type, ",
        ),
        (RouteFilter, {"table": "100"}, "table: should be 'main', 'local' or 'all'"),
        (RouteQuestion, {"dst": "10.0.0.0/8"}, "dst: '10.0.0.0/8' is not an IPv4 address"),
        (AddressParams, {"address": "10.0.0.1/40", "dev": "e"}, "address: '10.0.0.1/40' is not an address such as"),
        (LinkParams, {"dev": "e"}, "give up, mtu, address, reverse_path, "),
        (LinkParams, {"dev": "e", "address": "02:00"}, "address: '02:00' is not a MAC address such as"),
        (LinkParams, {"dev": "e", "up": "yes"}, "up: should be a valid boolean"),
        (NoParams, {"x": 1}, "x: no such parameter; there are: none"),
    ],
)
def test_what_is_wrong(model: type[Params], params: dict[str, Any], message: str) -> None:
    with pytest.raises(RpcRefusedError) as caught:
        checked(model, params)
    assert caught.value.error.code == "usage"
    assert caught.value.error.message.startswith(message)
