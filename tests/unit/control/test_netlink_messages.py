"""rtnetlink messages as Linux 6.18 sent them (captured), and some put together by hand at the kernel's offsets."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common import netlink
from services.control import netlink_messages
from services.control.kernel_types import (
    AddressChanged,
    AddressGone,
    KernelEvent,
    KernelNextHop,
    Link,
    LinkAddress,
    LinkChanged,
    LinkGone,
    NextHopObject,
    NextHopObjectChanged,
    NextHopObjectGone,
    Placement,
    RouteChanged,
    RouteGone,
    RouteInfo,
    RouteType,
    Unsettled,
    split_key,
)
from services.control.netlink_messages import explanation, is_foreign_rule, next_hop_object_from

# ip addr add 10.0.0.1/24 brd + dev e0, in the kernel's own order
ADDRESS = (
    "540000001400000013ed016b406a00000218800003000000080001000a000001080002000a000001080004000a0000ff07000300653000000"
    "80008008000000014000600ffffffffffffffffd0330500d0330500"
)
LOCAL_ROUTE = (
    "3c00000018000006000000000000000002200000ff02fe020000000008000f00ff000000080001000a000001080007000a000001080004000"
    "3000000"
)
# ip route add 10.1.0.0/16 via 10.0.0.2 metric 5 mtu 1400 proto 200 src 10.0.0.1
GATEWAY_ROUTE = (
    "580000001800000613ed016b426a000002100000fec800010000000008000f00fe000000080001000a01000008000600050000000c0008000"
    "800020078050000080007000a000001080005000a0000020800040003000000"
)
# ip route add 10.2.0.0/16 nexthop via 10.0.0.2 weight 2 nexthop via 10.0.0.3 dev e0 onlink
MULTIPATH_ROUTE = (
    "500000001800000613ed016b446a000002100000fe0300010000000008000f00fe000000080001000a0200002400090010000001030000000"
    "80005000a0000021000040003000000080005000a000003"
)
# ip route del 10.2.0.0/16
MULTIPATH_GONE = (
    "500000001900000013ed016b696a000002100000fe0300010000000008000f00fe000000080001000a0200002400090010000001030000000"
    "80005000a0000021000040003000000080005000a000003"
)
# ip route add 10.3.0.0/16 nhid 9, a group of 7 and 8 (weight 3)
NEXT_HOP_OBJECT_ROUTE = (
    "580000001800000613ed016b596a000002100000fe0300010000000008000f00fe000000080001000a03000008001e0009000000240009001"
    "000000003000000080005000a0000021000000203000000080005000a000003"
)
# ip route add 10.4.0.0/16 via inet6 fe80::1 dev e0
IPV6_GATEWAY_ROUTE = (
    "4c0000001800000613ed016b5b6a000002100000fe0300010000000008000f00fe000000080001000a040000160012000a00fe80000000000"
    "000000000000000000100000800040003000000"
)
# ip route add 10.78.0.0/16 encap ip id 1 dst 1.2.3.4 dev e0
ENCAPSULATING_ROUTE = (
    "740000001800000613ed016b716a000002100000fe03fd010000000008000f00fe000000080001000a4e00000800040003000000380016000"
    "c0001000000000000000001080002000102030408000300000000000500050000000000050004000000000006000600000000000600150002"
    "000000"
)
# ip route add prohibit default metric 4294967295
PROHIBIT_DEFAULT = "2c0000001800000613ed016b606a000002000000fe0300080000000008000f00fe00000008000600ffffffff"
# ip route replace 10.1.0.0/16 via 10.0.0.9 metric 5
REPLACING_ROUTE = (
    "440000001800000113ed016b646a000002100000fe0300010000000008000f00fe000000080001000a010000080006000500000008000500"
    "0a0000090800040003000000"
)
# ip route append 10.1.0.0/16 via 10.0.0.8 metric 5
APPENDED_ROUTE = (
    "440000001800000c13ed016b676a000002100000fe0300010000000008000f00fe000000080001000a010000080006000500000008000500"
    "0a0000080800040003000000"
)
# ip route add 10.77.0.0/16 via 10.0.0.2 table 1000
OTHER_TABLE_ROUTE = (
    "3c0000001800000613ed016b6f6a000002100000fc0300010000000008000f00e8030000080001000a4d0000080005000a00000208000400"
    "03000000"
)
NEW_NEXT_HOP = "300000006800050613ed016b516a000002fd00000000000008000100080000000800050003000000080006000a000003"
# ip nexthop del id 8, a member of the group 9
NEXT_HOP_GONE = "300000006900050013ed016b6b6a000002fd00000000000008000100080000000800050003000000080006000a000003"
GROUP_SHRUNK = (
    "3c0000006800050013ed016b6b6a00000000000000000000080001000900000006000300000000000c00020007000000000000000800"
    "0e0000000080"
)
# ip rule add from 1.1.1.1 table 100
RULE = (
    "440000002000000013ed016b6d6a000002002000640000010000000008000f006400000008000e00ffffffff050015000000000008000600"
    "fd7f00000800020001010101"
)

E0 = 3
UNIVERSE, LINK, HOST = 0, 253, 254


def told(datagram: bytes) -> list[KernelEvent]:
    found = (netlink_messages.event(*message) for message in netlink.messages(datagram))
    return [event for event in found if event is not None]


def events(*captures: str) -> list[KernelEvent]:
    return list(told(bytes.fromhex("".join(captures))))


def attribute(kind: int, payload: bytes) -> bytes:
    """A netlink attribute (netlink(7)): length, type, payload, padding to 4 bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def link_message(kind: int, *, family: int = 0, name: bytes | None = b"eth0\0", master: int = 0) -> bytes:
    """struct nlmsghdr, struct ifinfomsg, and the attributes of linux/if_link.h that matter."""
    body = struct.pack("=BxHiII", family, 1, E0, 0x1_1043, 1)
    body += attribute(1, bytes.fromhex("020000000001"))  # IFLA_ADDRESS
    body += attribute(2, b"\xff" * 6)  # IFLA_BROADCAST
    if name is not None:
        body += attribute(3, name)  # IFLA_IFNAME
    body += attribute(4, struct.pack("=I", 1500))  # IFLA_MTU
    body += attribute(6, b"noqueue\0")  # IFLA_QDISC
    body += attribute(13, struct.pack("=I", 1000))  # IFLA_TXQLEN
    body += attribute(16, b"\x06")  # IFLA_OPERSTATE, IF_OPER_UP
    if master:
        body += attribute(10, struct.pack("=I", master))  # IFLA_MASTER
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def route_info(*hops: KernelNextHop, **changes: object) -> RouteInfo:
    plain = RouteInfo(RouteType.UNICAST, 3, UNIVERSE, 0, 0, 0, 0, 0, hops)
    return plain._replace(**changes)  # type: ignore[arg-type]


def test_an_address() -> None:
    address = LinkAddress(E0, 0x0A000001, 24, 0x0A0000FF, UNIVERSE, 0x80, "e0", 0xFFFF_FFFF, 0xFFFF_FFFF)
    assert events(ADDRESS) == [AddressChanged(address)]
    gone = ADDRESS[:8] + "15" + ADDRESS[10:]  # RTM_DELADDR in place of RTM_NEWADDR
    assert events(gone) == [AddressGone(address)]


def test_a_route_of_table_local() -> None:
    info = RouteInfo(RouteType.LOCAL, 2, HOST, 0, 0, 0x0A000001, 0, 0, (KernelNextHop(E0, 0, 1, 0),))
    assert events(LOCAL_ROUTE) == [RouteChanged(255, 0x0A000001 << 8 | 32, info, Placement.FIRST)]


def test_a_route_with_all_that_it_may_have() -> None:
    hop = KernelNextHop(E0, 0x0A000002, 1, 0)
    info = route_info(hop, protocol=200, metric=5, source=0x0A000001, mtu=1400)
    assert events(GATEWAY_ROUTE) == [RouteChanged(254, 0x0A010000 << 8 | 16, info, Placement.FIRST)]


def test_a_multipath_route_comes_and_goes() -> None:
    info = route_info(KernelNextHop(E0, 0x0A000002, 2, 0), KernelNextHop(E0, 0x0A000003, 1, 4))
    key = 0x0A020000 << 8 | 16
    assert events(MULTIPATH_ROUTE, MULTIPATH_GONE) == [
        RouteChanged(254, key, info, Placement.FIRST),
        RouteGone(254, key, info),
    ]


def test_a_route_by_nexthop_objects_carries_its_next_hops_and_the_objects_id() -> None:
    info = route_info(KernelNextHop(E0, 0x0A000002, 1, 0), KernelNextHop(E0, 0x0A000003, 3, 0), next_hop_object=9)
    assert events(NEXT_HOP_OBJECT_ROUTE) == [RouteChanged(254, 0x0A030000 << 8 | 16, info, Placement.FIRST)]


def test_next_hops_that_hopwire_cannot_use_say_why() -> None:
    (ipv6, encapsulating) = events(IPV6_GATEWAY_ROUTE, ENCAPSULATING_ROUTE)
    assert isinstance(ipv6, RouteChanged)
    assert ipv6.info.next_hops == (KernelNextHop(E0, 0, 1, 0, "its gateway is not an IPv4 one"),)
    assert isinstance(encapsulating, RouteChanged)
    assert encapsulating.info.next_hops == (KernelNextHop(E0, 0, 1, 0, "it encapsulates"),)
    assert encapsulating.info.scope == LINK


def test_a_default_route_that_prohibits() -> None:
    info = route_info(type=RouteType.PROHIBIT, metric=0xFFFF_FFFF)
    assert events(PROHIBIT_DEFAULT) == [RouteChanged(254, 0, info, Placement.FIRST)]


def test_where_a_route_goes_among_its_equals() -> None:
    placements = [
        event.placement for event in events(REPLACING_ROUTE, APPENDED_ROUTE) if isinstance(event, RouteChanged)
    ]
    assert placements == [Placement.REPLACE, Placement.LAST]


def test_a_table_number_over_255_comes_from_its_attribute() -> None:
    (event,) = events(OTHER_TABLE_ROUTE)
    assert isinstance(event, RouteChanged)
    assert event.table == 1000


def test_a_type_that_is_not_known_yet() -> None:
    unknown = bytearray.fromhex(PROHIBIT_DEFAULT)
    unknown[16 + 7] = 77  # rtm_type
    (event,) = told(bytes(unknown))
    assert isinstance(event, RouteChanged)
    assert event.info.type is RouteType.UNSPEC


def test_entries_of_the_route_cache_are_left_out() -> None:
    cached = bytearray.fromhex(GATEWAY_ROUTE)
    cached[16 + 8 : 16 + 12] = struct.pack("=I", 0x200)  # rtm_flags: RTM_F_CLONED
    assert list(told(bytes(cached))) == []


def test_nexthop_objects() -> None:
    new = NextHopObject(8, KernelNextHop(E0, 0x0A000003, 1, 0), ())
    assert events(NEW_NEXT_HOP) == [NextHopObjectChanged(new, in_silence=False)]
    shrunk = NextHopObject(9, None, ((7, 1),))
    assert events(NEXT_HOP_GONE, GROUP_SHRUNK) == [NextHopObjectGone(8), NextHopObjectChanged(shrunk, in_silence=True)]


def test_kinds_of_nexthop_objects() -> None:
    def of(family: int, *attributes: bytes) -> NextHopObject:
        header = struct.pack("=BBBBI", family, 0, 0, 0, 0)  # struct nhmsg
        return next_hop_object_from(header + attribute(1, struct.pack("=I", 5)) + b"".join(attributes))

    oif = attribute(5, struct.pack("=I", E0))
    # struct nexthop_grp: weights 1, 256 and 46 * 256, each less one
    group = attribute(2, struct.pack("=IBBHIBBHIBBH", 1, 0, 0, 0, 2, 255, 0, 0, 3, 255, 45, 0))
    assert of(2, oif) == NextHopObject(5, KernelNextHop(E0, 0, 1, 0), ())
    assert of(2, attribute(4, b"")) == NextHopObject(5, None, ())  # a blackhole
    assert of(0, group, attribute(3, struct.pack("=H", 1))).members == ((1, 1), (2, 256), (3, 11_776))  # resilient
    six = of(10, oif, attribute(6, bytes(16)))
    assert six.next_hop == KernelNextHop(E0, 0, 1, 0, "its gateway is not an IPv4 one")
    encapsulating = of(2, oif, attribute(7, struct.pack("=H", 1)))
    assert encapsulating.next_hop == KernelNextHop(E0, 0, 1, 0, "it encapsulates")


def test_a_rule_is_foreign_unless_it_is_one_of_the_three_of_the_start() -> None:
    assert events(RULE) == [Unsettled("the routing rules changed")]
    ((_, _, rule),) = netlink.messages(bytes.fromhex(RULE))
    assert is_foreign_rule(rule)

    def of_the_start(priority: int, table: int, *attributes: bytes, action: int = 1) -> bool:
        body = struct.pack("=8BI", 2, 0, 0, 0, table, 0, 0, action, 0)  # struct fib_rule_hdr
        body += attribute(15, struct.pack("=I", table))  # FRA_TABLE
        body += b"".join(attributes)
        if priority:
            body += attribute(6, struct.pack("=I", priority))  # FRA_PRIORITY
        return not is_foreign_rule(body)

    assert of_the_start(0, 255)
    assert of_the_start(32_766, 254)
    assert of_the_start(32_767, 253)
    assert not of_the_start(32_766, 253)
    assert not of_the_start(100, 254)
    assert not of_the_start(32_766, 254, attribute(10, struct.pack("=I", 1)))  # FRA_FWMARK
    assert not of_the_start(32_766, 254, attribute(3, b"eth0\0"))  # FRA_IIFNAME
    assert not of_the_start(32_766, 254, action=7)  # FR_ACT_UNREACHABLE
    assert of_the_start(32_766, 254, attribute(14, b"\xff" * 4))  # FRA_SUPPRESS_PREFIXLEN: none
    assert not of_the_start(32_766, 254, attribute(14, bytes(4)))


def test_an_interface() -> None:
    link = Link(
        index=E0,
        name="eth0",
        link_type=1,
        flags=0x1_1043,
        mac=bytes.fromhex("020000000001"),
        broadcast=b"\xff" * 6,
        mtu=1500,
        master=0,
        operational_state="UP",
        queueing_discipline="noqueue",
        transmit_queue_length=1000,
    )
    assert list(told(link_message(16) + link_message(17))) == [LinkChanged(link), LinkGone(E0)]
    assert link.is_up
    assert link.is_routed
    (enslaved,) = told(link_message(16, master=9))
    assert isinstance(enslaved, LinkChanged)
    assert not enslaved.link.is_routed


def test_what_a_bridge_says_of_its_ports_is_not_about_the_interface() -> None:
    assert list(told(link_message(17, family=7))) == []  # AF_BRIDGE: the port left the bridge
    assert list(told(link_message(16, name=None))) == []  # a wireless event: no name


def test_the_kernels_own_words_for_a_refusal() -> None:
    # struct nlmsgerr (the errno and the header of what failed), then NLMSGERR_ATTR_MSG
    refused = struct.pack("=iIHHII", -101, 36, 24, 5, 7, 0)
    assert explanation(refused + attribute(1, b"Nexthop has invalid gateway\0")) == "Nexthop has invalid gateway"
    assert explanation(refused) == ""


def test_what_cannot_be_read_asks_for_a_dump() -> None:
    unsettled = [Unsettled("an announcement of the kernel could not be read")]
    for kind in (16, 20, 24, 25):
        assert events(struct.pack("=IHHII", 16, kind, 0, 0, 0).hex()) == unsettled
    odd_metric = struct.pack("=8BI", 2, 0, 0, 0, 254, 3, 0, 1, 0) + attribute(6, b"\1\2")
    assert events((struct.pack("=IHHII", 16 + len(odd_metric), 24, 0, 0, 0) + odd_metric).hex()) == unsettled
    assert events(struct.pack("=IHHII", 16, 99, 0, 0, 0).hex()) == []


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(
        (ADDRESS, GATEWAY_ROUTE, MULTIPATH_ROUTE, ENCAPSULATING_ROUTE, GROUP_SHRUNK, RULE, link_message(16).hex())
    ),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4),
    st.integers(0, 120),
)
def test_any_bytes_give_events(capture: str, damages: list[tuple[int, int]], length: int) -> None:
    data = bytearray.fromhex(capture)
    for position, value in damages:
        data[position % len(data)] = value
    for event in told(bytes(data[: max(16, length)])):
        if isinstance(event, RouteChanged | RouteGone):
            prefix, prefix_length = split_key(event.key)
            assert 0 <= prefix <= 0xFFFF_FFFF
            assert 0 <= prefix_length <= 32
