"""Topologies whose routers learn their routes from FRR and BIRD: OSPF (RFC 2328) and BGP (RFC 4271), with BFD."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Final

from services.launcher.lab.topology import Daemon, Host, Link, LinkEnd, Route, Router, Topology

BFD_INTERVAL_MS: Final = 300
BFD_MULTIPLIER: Final = 3
DETECTION_S: Final = BFD_INTERVAL_MS * BFD_MULTIPLIER / 1000
"""After so long without a BFD packet a neighbour is gone (RFC 5880 section 6.8.4)."""

_OSPF_RING_PICTURE = """\
   host1 ------------ router1 -------------------- router2 ------------ host2
192.168.1.2  192.168.1.1 | 192.168.12.1  192.168.12.2 | 192.168.2.1  192.168.2.2
                         |                            |
            192.168.13.1 |                            | 192.168.23.2
                         |                            |
            192.168.13.3 |                            | 192.168.23.3
                         +--------- router3 ----------+
                                       | 192.168.3.1
                                       |
                                     host3 192.168.3.2
"""

_BGP_ECMP_PICTURE = """\
                  10.1.1.1 +------- spine1 -------+ 10.2.1.2
                           | 10.1.1.2    10.2.1.1 |
                           |                      |
  host1 -------- edge1 ----+------- spine2 -------+---- edge2 -------- host2
192.168.1.2  192.168.1.1   | 10.1.2.2    10.2.2.1 |   192.168.2.1  192.168.2.2
                 10.1.2.1  |                      |  10.2.2.2
                           |                      |
                  10.1.3.1 +------- spine3 -------+ 10.2.3.2
                             10.1.3.2    10.2.3.1
"""


def _link(left: str, left_address: str, right: str, right_address: str) -> Link:
    return Link((LinkEnd(left, IPv4Interface(left_address)), LinkEnd(right, IPv4Interface(right_address))))


def _host(name: str, gateway: str) -> Host:
    return Host(name, (Route(IPv4Network("0.0.0.0/0"), IPv4Address(gateway)),))


# --- OSPF -------------------------------------------------------------------------------------------------------------

_FRR_BFD_PROFILE = f"""\
bfd
 profile lab
  receive-interval {BFD_INTERVAL_MS}
  transmit-interval {BFD_INTERVAL_MS}
  detect-multiplier {BFD_MULTIPLIER}
"""

_BIRD_COMMON = f"""\
log stderr {{ info, remote, warning, error, auth, fatal, bug }};
protocol device {{
  scan time 1;
}}
protocol direct {{
  ipv4;
}}
protocol kernel {{
  merge paths on;  # several next hops in one route
  ipv4 {{
    export all;
  }};
}}
protocol bfd {{
  interface "eth*" {{
    interval {BFD_INTERVAL_MS} ms;
    multiplier {BFD_MULTIPLIER};
  }};
}}
"""


def _ospf_by_frr(router_id: str) -> tuple[Daemon, ...]:
    between_routers = "".join(
        f"""\
interface {name}
 ip ospf area 0
 ip ospf network point-to-point
 ip ospf hello-interval 1
 ip ospf dead-interval 10
 ip ospf bfd
 ip ospf bfd profile lab
"""
        for name in ("eth1", "eth2")
    )
    ospf = f"""\
interface eth0
 ip ospf area 0
 ip ospf passive
{between_routers}router ospf
 ospf router-id {router_id}
 ! a second change follows a first one after 1 s, RFC 2328's MinLSArrival, and not after 5 s
 timers throttle lsa all 1000
 timers throttle spf 0 50 1000
"""
    return (Daemon("zebra", ""), Daemon("bfdd", _FRR_BFD_PROFILE), Daemon("ospfd", ospf))


def _ospf_by_bird(router_id: str) -> tuple[Daemon, ...]:
    ospf = f"""\
router id {router_id};
{_BIRD_COMMON}protocol ospf v2 {{
  ecmp on;
  ipv4 {{
    import all;
  }};
  area 0 {{
    interface "eth1", "eth2" {{
      type ptp;
      hello 1;
      dead 10;
      bfd on;
    }};
    interface "eth0" {{
      stub on;
    }};
  }};
}}
"""
    return (Daemon("bird", ospf),)


OSPF_RING: Final = Topology(
    name="ospf-ring",
    hosts=(_host("host1", "192.168.1.1"), _host("host2", "192.168.2.1"), _host("host3", "192.168.3.1")),
    routers=(
        Router("router1", daemons=_ospf_by_frr("192.168.1.1")),
        Router("router2", daemons=_ospf_by_frr("192.168.2.1")),
        Router("router3", daemons=_ospf_by_bird("192.168.3.1")),
    ),
    links=(
        _link("host1", "192.168.1.2/24", "router1", "192.168.1.1/24"),
        _link("router2", "192.168.2.1/24", "host2", "192.168.2.2/24"),
        _link("router3", "192.168.3.1/24", "host3", "192.168.3.2/24"),
        _link("router1", "192.168.12.1/24", "router2", "192.168.12.2/24"),
        _link("router1", "192.168.13.1/24", "router3", "192.168.13.3/24"),
        _link("router2", "192.168.23.2/24", "router3", "192.168.23.3/24"),
    ),
    picture=_OSPF_RING_PICTURE,
)

# --- BGP --------------------------------------------------------------------------------------------------------------

_SPINE_AS: Final = 65100
"""One AS for all spines, one for each edge (RFC 7938 section 5.2.1): paths over two spines are then of equal cost."""


def _bgp_by_frr(number: int, router_id: str, neighbours: dict[str, int], network: str = "") -> tuple[Daemon, ...]:
    """Return the daemons of a router with this AS number and these neighbours, each with its own AS number.

    One that announces a network, an edge, connects; a spine only listens, so that no two connections collide.
    """
    connecting = "timers connect 1" if network else "passive"
    peers = "".join(
        f"""\
 neighbor {address} remote-as {its_number}
 neighbor {address} {connecting}
 neighbor {address} bfd
 neighbor {address} bfd profile lab
"""
        for address, its_number in neighbours.items()
    )
    announced = f"  network {network}\n" if network else ""
    bgp = f"""\
router bgp {number}
 bgp router-id {router_id}
 no bgp ebgp-requires-policy
 timers bgp 3 9
{peers} address-family ipv4 unicast
{announced}  maximum-paths 8
 exit-address-family
"""
    return (Daemon("zebra", ""), Daemon("bfdd", _FRR_BFD_PROFILE), Daemon("bgpd", bgp))


def _bgp_by_bird(number: int, router_id: str, neighbours: dict[str, int], network: str = "") -> tuple[Daemon, ...]:
    """Do the same with BIRD."""
    connecting = "connect retry time 1" if network else "passive on"
    exported = f" || net = {network}" if network else ""
    peers = "".join(
        f"""\
protocol bgp {{
  local as {number};
  neighbor {address} as {its_number};
  {connecting};
  connect delay time 1;
  error wait time 1, 2;
  hold time 9;
  bfd on;
  ipv4 {{
    import all;
    export where source = RTS_BGP{exported};
  }};
}}
"""
        for address, its_number in neighbours.items()
    )
    return (Daemon("bird", f"router id {router_id};\n{_BIRD_COMMON}{peers}"),)


_SPINES = range(1, 4)

BGP_ECMP: Final = Topology(
    name="bgp-ecmp",
    hosts=(_host("host1", "192.168.1.1"), _host("host2", "192.168.2.1")),
    routers=(
        Router(
            "edge1",
            daemons=_bgp_by_frr(
                65001, "192.168.1.1", {f"10.1.{spine}.2": _SPINE_AS for spine in _SPINES}, "192.168.1.0/24"
            ),
        ),
        Router("spine1", daemons=_bgp_by_frr(_SPINE_AS, "10.1.1.2", {"10.1.1.1": 65001, "10.2.1.2": 65002})),
        Router("spine2", daemons=_bgp_by_frr(_SPINE_AS, "10.1.2.2", {"10.1.2.1": 65001, "10.2.2.2": 65002})),
        Router("spine3", daemons=_bgp_by_bird(_SPINE_AS, "10.1.3.2", {"10.1.3.1": 65001, "10.2.3.2": 65002})),
        Router(
            "edge2",
            daemons=_bgp_by_bird(
                65002, "192.168.2.1", {f"10.2.{spine}.1": _SPINE_AS for spine in _SPINES}, "192.168.2.0/24"
            ),
        ),
    ),
    links=(
        _link("host1", "192.168.1.2/24", "edge1", "192.168.1.1/24"),
        _link("edge2", "192.168.2.1/24", "host2", "192.168.2.2/24"),
        *(_link("edge1", f"10.1.{spine}.1/24", f"spine{spine}", f"10.1.{spine}.2/24") for spine in _SPINES),
        *(_link(f"spine{spine}", f"10.2.{spine}.1/24", "edge2", f"10.2.{spine}.2/24") for spine in _SPINES),
    ),
    picture=_BGP_ECMP_PICTURE,
)
