"""The compiled fast path and a plain Python router must agree about every frame, its bytes, and where it goes."""

from collections import Counter
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pipeline_rig import Bench
from random_frames import FrameMaker

from tests.oracle.router import Answer, Arrival, Hop, Link, Route, Router

FRAMES = 100_000
BASES = [IPv4Address(text) for text in ("10.0.0.0", "10.1.2.0", "192.168.255.0", "172.16.5.128", "200.1.1.1")]
GATEWAYS = [IPv4Address(text) for text in ("10.0.0.9", "10.0.0.10", "192.168.255.254", "200.1.1.2")]
NO_HOPS = ("local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit")
LENGTHS = (0, 1, 4, 8, 15, 16, 20, 23, 24, 25, 26, 30, 31, 32)
MACS = [bytes((2, 0, 0, 0, 0, number)) for number in range(8)]

OWN = IPv4Address("10.0.0.1")
BASIC_ROUTES = [
    Route(IPv4Network("10.0.0.1/32"), "local"),
    Route(IPv4Network("10.0.0.255/32"), "broadcast", (Hop(3),)),
    Route(IPv4Network("192.168.255.255/32"), "broadcast", (Hop(4),)),
    Route(IPv4Network("10.0.0.0/24"), hops=(Hop(3),)),
    Route(IPv4Network("192.168.255.0/24"), hops=(Hop(4),)),
    Route(IPv4Network("200.1.0.0/16"), hops=(Hop(5),)),
]
hops = st.builds(
    Hop,
    interface=st.sampled_from((3, 4, 5) * 4 + (6, 9)),  # 6 is down, 9 is not known
    gateway=st.sampled_from((None, *GATEWAYS)),
    weight=st.integers(1, 3),
)


policies = st.fixed_dictionaries(
    {
        "reverse_path": st.sampled_from(("off",) * 8 + ("loose", "strict")),
        "martians": st.sampled_from(("strict", "strict", "linux")),
        "directed_broadcast": st.booleans(),
    }
)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """A route near the base addresses, so that prefixes nest."""
    length = draw(st.sampled_from(LENGTHS))
    address = int(draw(st.sampled_from(BASES))) ^ draw(st.integers(0, 1023))
    prefix = IPv4Network((address >> (32 - length) << (32 - length), length))
    kind = draw(st.sampled_from(("unicast",) * 20 + NO_HOPS))
    if kind == "broadcast":
        return Route(prefix, kind, (Hop(draw(st.sampled_from((3, 4, 5, 6, 9)))),))
    if kind != "unicast":
        return Route(prefix, kind)
    ways = tuple(draw(st.lists(hops, min_size=draw(st.sampled_from((0, 1, 1, 1, 1))), max_size=3)))
    return Route(prefix, kind, ways, draw(st.sampled_from((0, 0, 0, 576, 1280, 9000))))


@st.composite
def routers(draw: st.DrawFn) -> Router:
    """A router with four links of several policies, connected prefixes, nested routes of all kinds, some neighbours."""
    links = {
        3: Link(MACS[3], **draw(policies)),
        4: Link(MACS[4], mtu=draw(st.sampled_from((1280, 1500, 9000))), redirects=False, **draw(policies)),
        5: Link(MACS[5], mtu=draw(st.sampled_from((1500, 65_535))), **draw(policies)),
        6: Link(MACS[6], up=False, **draw(policies)),
    }
    drawn = draw(st.lists(routes(), max_size=20))
    table = list({route.prefix: route for route in BASIC_ROUTES + drawn}.values())
    known = draw(st.sets(st.tuples(st.sampled_from((3, 4, 5)), st.sampled_from(GATEWAYS)), min_size=6))
    return Router(links, table, {key: MACS[number % 8] for number, key in enumerate(sorted(known))})


def targets(router: Router) -> list[IPv4Address]:
    """The addresses at which routes begin and end, and those beside them; the router's own, gateways, and bases."""
    edges = [
        int(address) + step
        for route in router.routes
        if route.prefix.prefixlen >= 8
        for address in (route.prefix.network_address, route.prefix.broadcast_address)
        for step in (-1, 0, 1)
    ]
    return [IPv4Address(edge % 2**32) for edge in edges] + GATEWAYS + BASES + 12 * [OWN]


def test_the_fast_path_agrees_with_the_oracle() -> None:
    seen: Counter[str] = Counter()

    # No shrinking: the message shows the one frame of the batch that it is about.
    @settings(
        max_examples=600,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        router=routers(),
        seed=st.integers(0, 2**32 - 1),
        count=st.sampled_from((256,) * 6 + (100, 1)),
        first=st.sampled_from((0, 1000, 2**40 + 300)),
        in_interface=st.sampled_from((3,) * 20 + (4, 6, 9)),
    )
    def agree(router: Router, seed: int, count: int, first: int, in_interface: int) -> None:
        near = targets(router)
        # Neighbours that are on a link themselves, so that connected prefixes have some.
        for number, address in enumerate(near[::3]):
            router.neighbours.setdefault((3 + number % 3, address), MACS[number % 8])
        maker = FrameMaker(seed, near)
        arrivals = [maker.arrival() for _ in range(count)]
        fate = Bench.of(router, first=first).forward(arrivals, in_interface)
        for arrival, answer in zip(arrivals, fate.answers, strict=True):
            possible = router.answers(arrival, in_interface)
            if answer not in possible:
                pytest.fail(f"\n{text(arrival)}\nbecame {text(answer)}\ninstead of {[text(one) for one in possible]}")
            seen[answer.verdict] += 1
        assert fate.untouched_outside
        hairpins = [n for n, answer in enumerate(fate.answers) if router.is_hairpin(answer, in_interface)]
        fate.check_that_each_frame_has_one(hairpins)

    agree()
    assert seen.total() >= FRAMES
    assert set(seen) == VERDICTS
    rare = {name: times for name, times in seen.items() if times < 10}
    assert not rare, "the frames hardly show what happens to these"


def text(what: Arrival | Answer) -> str:
    """A frame or its fate in a line: a super-frame's tail says nothing."""
    return f"{replace(what, frame=what.frame[:80])} of {len(what.frame)} bytes"


VERDICTS = {
    "FORWARDED",
    "HANDED",
    "FRAGMENTED",
    "OPTIONS_FILLED",
    "ECHO_ANSWERED",
    "WAITING",
    "LOCAL",
    "LOCAL_GROUP",
    "NOT_IPV4",
    "DROP_RING_ENTRY",
    "DROP_UNKNOWN_INTERFACE",
    "DROP_FOREIGN_MAC",
    "DROP_LINK_BROADCAST",
    "DROP_IP_SHORT",
    "DROP_IP_VERSION",
    "DROP_IP_HEADER_LENGTH",
    "DROP_IP_CHECKSUM",
    "DROP_IP_TOTAL_LENGTH",
    "DROP_IP_TRUNCATED",
    "DROP_MARTIAN_SOURCE",
    "DROP_MARTIAN_DESTINATION",
    "DROP_LINK_LOCAL",
    "DROP_REVERSE_PATH",
    "DROP_TTL_EXCEEDED",
    "DROP_NO_ROUTE",
    "DROP_BLACKHOLE",
    "DROP_UNREACHABLE",
    "DROP_PROHIBITED",
    "DROP_DIRECTED_BROADCAST",
    "DROP_MTU_EXCEEDED",
    "DROP_SOURCE_ROUTED",
}
