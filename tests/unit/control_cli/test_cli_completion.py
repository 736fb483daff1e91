"""What the shell offers behind the words typed so far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.cli.completion import Candidates, candidates

ROUTE_WORDS = ["src", "via", "metric", "priority", "preference", "mtu", "onlink", "protocol", "dev", "oif", "nexthop"]
ROUTE_TYPES = ["prohibit", "unreachable", "blackhole", "unicast"]
POLICY_WORDS = ["reverse-path", "martians", "directed-broadcast", "redirects", "proxy-arp"]
OBJECTS = [
    *("addr", "route", "neigh", "link", "monitor", "counters", "status", "show", "top", "config"),
    *("nat", "capture", "drops", "trace", "why", "keygen", "version", "help"),
]
KERNEL_TYPES = [
    *("unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat")
]
SELECTORS = ["table", "protocol", "scope", "type", "dev", "oif", "via", "root", "match"]
LINK_WORDS = ["up", "down", "mtu", "address", *POLICY_WORDS]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Candidates(OBJECTS)),
        ("route", Candidates(["show", "add", "replace", "del", "get", "flush", "help"])),
        ("r", Candidates(["show", "add", "replace", "del", "get", "flush", "help"])),
        ("link", Candidates(["set", "show", "help"])),
        ("route add", Candidates(["default", *ROUTE_TYPES, *ROUTE_WORDS])),
        ("route add default", Candidates(ROUTE_WORDS)),
        ("route add default via", Candidates([])),
        ("route add default dev", Candidates([], interfaces=True)),
        (
            "route add default dev eth0 metric 5",
            Candidates(["src", "via", "mtu", "onlink", "protocol", "nexthop"]),
        ),
        ("route add default nexthop via 10.1.1.1", Candidates(["dev", "oif", "weight", "nexthop"])),
        ("route add default nexthop via 10.1.1.1 nexthop", Candidates(["via", "dev", "oif", "weight", "nexthop"])),
        ("route show table", Candidates(["main", "local", "all"])),
        ("link set", Candidates([*LINK_WORDS, "dev"], interfaces=True)),
        ("link set eth0", Candidates(LINK_WORDS)),
        ("link set dev eth0", Candidates(LINK_WORDS)),
        ("addr show", Candidates(["dev"], interfaces=True)),
        ("neigh show", Candidates(["dev"])),
        ("neigh add 10.0.0.1", Candidates(["lladdr", "dev", "nud"])),
        ("neigh add 10.0.0.1 nud", Candidates(["permanent"])),
        ("counters", Candidates(["dev"], interfaces=True)),
        ("counters eth0", Candidates([])),
        ("monitor route", Candidates(["all", "link", "address", "neighbor", "neighbour"])),
        ("top", Candidates([])),
        ("show", Candidates(["drops", "interfaces", "fib", "help"])),
        ("show drops", Candidates(["dev"], interfaces=True)),
        ("addr flush", Candidates(["to", "scope", "dev"], interfaces=True)),
        ("route show type", Candidates([*KERNEL_TYPES])),
        ("route get 10.0.0.1 from 10.0.0.2 iif", Candidates([], interfaces=True)),
        ("help", Candidates([])),
        ("rule", Candidates([])),
        ("route flush", Candidates(["default", *SELECTORS])),
        ("route help", Candidates([])),
    ],
)
def test_the_words_that_may_follow(line: str, expected: Candidates) -> None:
    assert candidates(line.split()) == expected


@given(st.lists(st.sampled_from(["route", "add", "nexthop", "dev", "link", "set", "via", "default", "", "x"])))
def test_any_words_have_candidates_without_an_error(tokens: list[str]) -> None:
    assert all(candidates(tokens).words)
