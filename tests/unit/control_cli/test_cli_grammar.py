"""Command lines as people type them at `ip`, and the requests they mean. Both sides are written by hand."""

import string
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.control.cli.grammar import Request, parse, usage_lines, usage_of
from services.control.cli.verb import HELP
from services.control.cli.vocabulary import MONITOR, TOP, VERSION
from services.control.cli.words import UsageError

ROUTES: list[tuple[str, str, dict[str, Any]]] = [
    ("route add 10.2.0.0/16 via 192.168.0.9", "route.add", {"dst": "10.2.0.0/16", "via": "192.168.0.9"}),
    ("route add default via 192.168.0.1", "route.add", {"dst": "default", "via": "192.168.0.1"}),
    ("route add 0.0.0.0/0 via 192.168.0.1", "route.add", {"dst": "default", "via": "192.168.0.1"}),
    ("route add all dev eth0", "route.add", {"dst": "default", "dev": "eth0"}),
    ("route add 10.9.0.1 dev eth0", "route.add", {"dst": "10.9.0.1/32", "dev": "eth0"}),
    ("route add 10.9.0.0/255.255.0.0 dev eth0", "route.add", {"dst": "10.9.0.0/16", "dev": "eth0"}),
    ("route add to 10.2.0.0/16 dev eth0", "route.add", {"dst": "10.2.0.0/16", "dev": "eth0"}),
    ("route add dev eth0 10.2.0.0/16", "route.add", {"dst": "10.2.0.0/16", "dev": "eth0"}),
    ("route add 10.2.0.0/16 oif eth0", "route.add", {"dst": "10.2.0.0/16", "dev": "eth0"}),
    ("route add blackhole 10.66.0.0/16", "route.add", {"dst": "10.66.0.0/16", "type": "blackhole"}),
    ("route add to unreachable 10.66.0.0/16", "route.add", {"dst": "10.66.0.0/16", "type": "unreachable"}),
    ("route add prohibit default", "route.add", {"dst": "default", "type": "prohibit"}),
    (
        "route add unicast 10.0.0.0/8 via 10.1.1.1",
        "route.add",
        {"dst": "10.0.0.0/8", "type": "unicast", "via": "10.1.1.1"},
    ),
    ("route add 10.0.0.0/8 dev d metric 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 5}),
    ("route add 10.0.0.0/8 dev d preference 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 5}),
    ("route add 10.0.0.0/8 dev d priority 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 5}),
    ("route add 10.0.0.0/8 dev d metric 0x10", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 16}),
    (
        "route add 10.0.0.0/8 dev d metric 4294967295",
        "route.add",
        {"dst": "10.0.0.0/8", "dev": "d", "metric": 4294967295},
    ),
    (
        "route replace 10.2.0.0/16 via 192.168.0.9 dev eth0 src 192.168.0.1 proto static onlink mtu 1400 metric 20",
        "route.replace",
        {
            "dst": "10.2.0.0/16",
            "via": "192.168.0.9",
            "dev": "eth0",
            "src": "192.168.0.1",
            "proto": "static",
            "onlink": True,
            "mtu": 1400,
            "metric": 20,
        },
    ),
    ("route add 10.0.0.0/8 dev d proto 42", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "proto": 42}),
    ("route del 10.2.0.0/16", "route.del", {"dst": "10.2.0.0/16"}),
    ("route delete default via 10.1.1.1", "route.del", {"dst": "default", "via": "10.1.1.1"}),
    (
        "route add default nexthop via 10.1.1.1 dev eth0 weight 2 nexthop via 10.1.1.2 nexthop dev eth1",
        "route.add",
        {
            "dst": "default",
            "nexthops": [{"via": "10.1.1.1", "dev": "eth0", "weight": 2}, {"via": "10.1.1.2"}, {"dev": "eth1"}],
        },
    ),
    (
        "route add 10.0.0.0/8 proto bgp nexthop weight 256 via 10.1.1.1",
        "route.add",
        {"dst": "10.0.0.0/8", "proto": "bgp", "nexthops": [{"via": "10.1.1.1", "weight": 256}]},
    ),
    ("route", "route.show", {}),
    ("route show", "route.show", {}),
    ("route list", "route.show", {}),
    ("route ls", "route.show", {}),
    ("route show 10.2.0.0/16", "route.show", {"dst": "10.2.0.0/16"}),
    ("route show 10.2.3.4", "route.show", {"dst": "10.2.3.4/32"}),
    ("route show exact 10.2.0.0/16", "route.show", {"dst": "10.2.0.0/16"}),
    ("route show default", "route.show", {"dst": "default"}),
    (
        "route show dev eth0 via 10.1.1.1 proto kernel table all",
        "route.show",
        {"dev": "eth0", "via": "10.1.1.1", "proto": "kernel", "table": "all"},
    ),
    ("route show table local", "route.show", {"table": "local"}),
    ("route show root 10.0.0.0/8", "route.show", {"root": "10.0.0.0/8"}),
    ("route show to root 10.0.0.0/8", "route.show", {"root": "10.0.0.0/8"}),
    ("route show match 10.2.3.4", "route.show", {"match": "10.2.3.4/32"}),
    ("route list root default match 10.2.0.0/16", "route.show", {"root": "default", "match": "10.2.0.0/16"}),
    ("route show scope link type unicast", "route.show", {"scope": "link", "type": "unicast"}),
    ("route show scope 7 type throw", "route.show", {"scope": 7, "type": "throw"}),
    ("route flush 10.2.0.0/16", "route.flush", {"dst": "10.2.0.0/16"}),
    ("route flush root 10.0.0.0/8 proto bgp", "route.flush", {"root": "10.0.0.0/8", "proto": "bgp"}),
    ("route flush table all", "route.flush", {"table": "all"}),
    ("route flush dev eth0 via 10.1.1.1", "route.flush", {"dev": "eth0", "via": "10.1.1.1"}),
    ("r f p 42", "route.flush", {"proto": 42}),
    ("route get 10.2.3.4 from 10.9.0.1", "route.get", {"dst": "10.2.3.4", "src": "10.9.0.1"}),
    (
        "route get to 10.2.3.4 from 10.9.0.1 iif eth0",
        "route.get",
        {"dst": "10.2.3.4", "src": "10.9.0.1", "iif": "eth0"},
    ),
    ("route get 10.2.3.4", "route.get", {"dst": "10.2.3.4"}),
    ("route get to 10.2.3.4", "route.get", {"dst": "10.2.3.4"}),
]

OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("addr add 10.0.0.1/24 dev eth0", "addr.add", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("address add dev eth0 10.0.0.1/24", "addr.add", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("addr add local 10.0.0.1/255.255.255.0 dev eth0", "addr.add", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("addr add 10.0.0.1 dev eth0", "addr.add", {"address": "10.0.0.1/32", "dev": "eth0"}),
    ("addr del 10.0.0.1/24 dev eth0", "addr.del", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("addr replace 10.0.0.1/24 dev eth0", "addr.replace", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("addr change 10.0.0.1/24 dev eth0", "addr.change", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("a chg 10.0.0.1/24 dev eth0", "addr.change", {"address": "10.0.0.1/24", "dev": "eth0"}),
    ("addr flush eth0", "addr.flush", {"dev": "eth0"}),
    ("a f dev eth0 scope link", "addr.flush", {"dev": "eth0", "scope": "link"}),
    ("addr flush to 10.0.0.0/8", "addr.flush", {"to": "10.0.0.0/8"}),
    ("counters eth0", "counters", {"dev": "eth0"}),
    ("show drops", "show.drops", {}),
    ("sh d eth0", "show.drops", {"dev": "eth0"}),
    ("show interfaces dev eth0", "show.interfaces", {"dev": "eth0"}),
    ("sh f", "show.fib", {}),
    ("top", TOP, {}),
    ("monitor", MONITOR, {}),
    ("mon a r", MONITOR, {"address": True, "route": True}),
    ("monitor link neigh", MONITOR, {"link": True, "neigh": True}),
    ("monitor all", MONITOR, {"all": True}),
    ("addr", "addr.show", {}),
    ("addr show", "addr.show", {}),
    ("addr show eth0", "addr.show", {"dev": "eth0"}),
    ("addr show dev eth0.100", "addr.show", {"dev": "eth0.100"}),
    ("addr show dev up", "addr.show", {"dev": "up"}),
    ("link", "link.show", {}),
    ("link show", "link.show", {}),
    ("link show dev eth0", "link.show", {"dev": "eth0"}),
    ("link set dev eth0 up", "link.set", {"dev": "eth0", "up": True}),
    ("link set eth0 down", "link.set", {"dev": "eth0", "up": False}),
    ("link set up eth0", "link.set", {"dev": "eth0", "up": True}),
    ("link set dev eth0 up mtu 9000", "link.set", {"dev": "eth0", "up": True, "mtu": 9000}),
    ("link set mtu 1400 dev eth0", "link.set", {"dev": "eth0", "mtu": 1400}),
    ("link set eth0 address 02:00:00:00:00:AB", "link.set", {"dev": "eth0", "address": "02:00:00:00:00:ab"}),
    ("link change eth0 up", "link.set", {"dev": "eth0", "up": True}),
    ("neigh", "neigh.show", {}),
    ("neigh show", "neigh.show", {}),
    ("neighbour show dev eth0", "neigh.show", {"dev": "eth0"}),
    ("neighbor list", "neigh.show", {}),
    ("neigh show 10.0.0.9", "neigh.show", {"dst": "10.0.0.9"}),
    ("neigh show to 10.0.0.9 dev eth0", "neigh.show", {"dst": "10.0.0.9", "dev": "eth0"}),
    (
        "neigh add 192.168.0.9 lladdr 02:00:00:00:00:0A dev eth1",
        "neigh.add",
        {"dst": "192.168.0.9", "lladdr": "02:00:00:00:00:0a", "dev": "eth1"},
    ),
    (
        "neigh replace to 192.168.0.9 dev eth1 nud permanent lladdr 02:00:00:00:00:0a",
        "neigh.replace",
        {"dst": "192.168.0.9", "lladdr": "02:00:00:00:00:0a", "dev": "eth1", "nud": "permanent"},
    ),
    ("neigh del 192.168.0.9 dev eth1", "neigh.del", {"dst": "192.168.0.9", "dev": "eth1"}),
    ("n d dev eth1 192.168.0.9", "neigh.del", {"dst": "192.168.0.9", "dev": "eth1"}),
    ("neigh flush", "neigh.flush", {}),
    ("neigh flush all", "neigh.flush", {"all": True}),
    ("n f dev eth1", "neigh.flush", {"dev": "eth1"}),
    ("neigh probe 192.168.0.9 dev eth1", "neigh.probe", {"dst": "192.168.0.9", "dev": "eth1"}),
    ("counters", "counters", {}),
    ("status", "status", {}),
    ("version", VERSION, {}),
    ("help", HELP, {}),
    ("route help", HELP, {"object": "route"}),
    ("link set help", HELP, {"object": "link"}),
]

# What `ip` of iproute2 6.1 makes of these abbreviations was tried with `ip` itself.
ABBREVIATIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("r", "route.show", {}),
    ("r s", "route.show", {}),
    ("r l", "route.show", {}),
    ("r a 10.0.0.0/8 via 10.1.1.1", "route.add", {"dst": "10.0.0.0/8", "via": "10.1.1.1"}),
    ("ro add 10.0.0.0/8 via 10.1.1.1", "route.add", {"dst": "10.0.0.0/8", "via": "10.1.1.1"}),
    ("r r 10.0.0.0/8 dev d", "route.replace", {"dst": "10.0.0.0/8", "dev": "d"}),
    ("r d 10.0.0.0/8", "route.del", {"dst": "10.0.0.0/8"}),
    ("r del 10.0.0.0/8", "route.del", {"dst": "10.0.0.0/8"}),
    ("r g 10.0.0.1", "route.get", {"dst": "10.0.0.1"}),
    ("r a bl 10.0.0.0/8", "route.add", {"dst": "10.0.0.0/8", "type": "blackhole"}),
    ("r a u 10.0.0.0/8", "route.add", {"dst": "10.0.0.0/8", "type": "unreachable"}),
    ("r a uni 10.0.0.0/8 dev d", "route.add", {"dst": "10.0.0.0/8", "type": "unicast", "dev": "d"}),
    ("r a proh 10.0.0.0/8", "route.add", {"dst": "10.0.0.0/8", "type": "prohibit"}),
    ("r a 10.0.0.0/8 dev d m 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 5}),
    ("r a 10.0.0.0/8 dev d p 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "metric": 5}),
    ("r a 10.0.0.0/8 dev d pro 5", "route.add", {"dst": "10.0.0.0/8", "dev": "d", "proto": 5}),
    ("r l t all", "route.show", {"table": "all"}),
    ("a", "addr.show", {}),
    ("a s", "addr.show", {}),
    ("a a 10.0.0.1/24 dev d", "addr.add", {"address": "10.0.0.1/24", "dev": "d"}),
    ("a d 10.0.0.1/24 dev d", "addr.del", {"address": "10.0.0.1/24", "dev": "d"}),
    ("l", "link.show", {}),
    ("l l", "link.show", {}),
    ("l sh", "link.show", {}),
    ("l s d up", "link.set", {"dev": "d", "up": True}),
    ("l s d a 02:00:00:00:00:01", "link.set", {"dev": "d", "address": "02:00:00:00:00:01"}),
    ("n", "neigh.show", {}),
    ("n s", "neigh.show", {}),
    ("nei l", "neigh.show", {}),
    ("c", "counters", {}),
    ("s", "status", {}),
    ("v", VERSION, {}),
]


@pytest.mark.parametrize(("line", "method", "params"), ROUTES + OTHERS + ABBREVIATIONS)
def test_a_line_of_ip_means_one_request(line: str, method: str, params: dict[str, Any]) -> None:
    assert parse(line.split()) == Request(method, params)


PREFIX = "a prefix such as 10.0.0.0/8, an IPv4 address, or default is expected"
ADDRESS = "an IPv4 address is expected"
DEVICE = "the name of an interface (15 bytes at most, no space, slash or colon) is expected"

LINK_WORDS = "up, down, mtu, address, reverse-path, martians, directed-broadcast, redirects or proxy-arp is expected"

OBJECTS = (
    "an object is expected: addr, route, neigh, link, monitor, counters, status, show, top, config, nat, capture, "
    "drops, trace, why, keygen, version or help"
)
SELECTORS = "table, protocol, scope, type, dev, via, root or match is expected"

WRONG: list[tuple[str, str, str | None, str]] = [
    ("", "", None, OBJECTS),
    ("rule", "", "rule", OBJECTS),
    ("route foo", "route", "foo", "show, add, replace, del, get, flush or help is expected"),
    ("r c 10.0.0.0/8", "route", "c", 'ip\'s "change" is not offered; use show, add, replace, del, get, flush or help'),
    (
        "r ap 10.0.0.0/8",
        "route",
        "ap",
        'ip\'s "append" is not offered; use show, add, replace, del, get, flush or help',
    ),
    ("route flush", "route flush", None, SELECTORS),
    ("route flush metric 5", "route flush", "metric", f'ip\'s "metric" is not offered; use {SELECTORS[:-12]}'),
    (
        "route show scope nobody",
        "route show",
        "nobody",
        'a scope: global, site, link, host, nowhere or a number 0 to 255 is expected after "scope"',
    ),
    ("addr flush", "addr flush", None, "to, scope or dev is expected"),
    ("show", "show", None, "drops, interfaces, fib or help is expected"),
    ("show rules", "show", "rules", "drops, interfaces, fib or help is expected"),
    ("t", "", "t", OBJECTS),
    ("m", "", "m", OBJECTS),
    ("monitor rule", "monitor", "rule", "all, link, address, route or neighbor is expected"),
    ("top eth0", "top", "eth0", "nothing more is expected"),
    ("r sa", "route", "sa", 'ip\'s "save" is not offered; use show, add, replace, del, get, flush or help'),
    ("l a d0", "link", "a", 'ip\'s "add" is not offered; use set, show or help'),
    (
        "n c 10.0.0.1",
        "neigh",
        "c",
        'ip\'s "change" is not offered; use add, replace, del, show, flush, probe or help',
    ),
    ("neigh add 10.0.0.1 dev eth0", "neigh add", None, '"lladdr" is expected'),
    ("neigh add lladdr 02:00:00:00:00:0a dev eth0", "neigh add", None, "an IPv4 address is expected"),
    (
        "neigh add 10.0.0.1 nud reachable",
        "neigh add",
        "reachable",
        'permanent (the arp service sees to all other states) is expected after "nud"',
    ),
    ("neigh add proxy 10.0.0.1", "neigh add", "proxy", 'ip\'s "proxy" is not offered; use lladdr, dev or nud'),
    ("neigh del 10.0.0.1", "neigh del", None, '"dev" is expected'),
    ("neigh flush 10.0.0.1", "neigh flush", "10.0.0.1", "all or dev is expected"),
    ("a sa", "addr", "sa", 'ip\'s "save" is not offered; use add, change, replace, del, show, flush or help'),
    ("route add", "route add", None, PREFIX),
    ("route add blackhole", "route add", None, f'{PREFIX} after "blackhole"'),
    ("route add to", "route add", None, f'{PREFIX} after "to"'),
    ("route add via 10.1.1.1", "route add", None, PREFIX),
    ("route add 10.0.0.0/33 dev d", "route add", "10.0.0.0/33", PREFIX),
    ("route add 10.0.0.0/ dev d", "route add", "10.0.0.0/", PREFIX),
    ("route add 10.0.0.0/0.0.255.255 dev d", "route add", "10.0.0.0/0.0.255.255", PREFIX),
    ("route add 10.0.0 dev d", "route add", "10.0.0", PREFIX),
    ("route add 010.0.0.0/8 dev d", "route add", "010.0.0.0/8", PREFIX),
    ("route add fd00::/8 dev d", "route add", "fd00::/8", PREFIX),
    ("route add b 10.0.0.0/8", "route add", "b", PREFIX),
    (
        "route add throw 10.0.0.0/8",
        "route add",
        "throw",
        'routes of type "throw" are not offered; use prohibit, unreachable, blackhole or unicast',
    ),
    (
        "route add 10.0.0.1/8 via 10.1.1.1",
        "route add",
        "10.0.0.1/8",
        "Invalid argument: host bits are set; the prefix is 10.0.0.0/8, the host 10.0.0.1/32",
    ),
    (
        "route del 10.1.2.3/16",
        "route del",
        "10.1.2.3/16",
        "Invalid argument: host bits are set; the prefix is 10.1.0.0/16, the host 10.1.2.3/32",
    ),
    (
        "route add 10.0.0.0/8 10.1.0.0/16",
        "route add",
        "10.1.0.0/16",
        "src, via, metric, mtu, onlink, protocol, dev or nexthop is expected",
    ),
    (
        "route add 10.0.0.0/8 dev d blackhole",
        "route add",
        "blackhole",
        "src, via, metric, mtu, onlink, protocol or nexthop is expected",
    ),
    ("route add 10.0.0.0/8 via", "route add", None, f'{ADDRESS} after "via"'),
    ("route add 10.0.0.0/8 via eth0", "route add", "eth0", f'{ADDRESS} after "via"'),
    ("route add 10.0.0.0/8 via 10.1.1.256", "route add", "10.1.1.256", f'{ADDRESS} after "via"'),
    ("route add 10.0.0.0/8 via 10.1.1.1 via 10.1.1.2", "route add", "via", "via is given already"),
    ("route add 10.0.0.0/8 metric 1 p 2", "route add", "p", "priority is given already"),
    ("route add 10.0.0.0/8 dev eth0/1", "route add", "eth0/1", f'{DEVICE} after "dev"'),
    ("route add 10.0.0.0/8 dev 1234567890123456", "route add", "1234567890123456", f'{DEVICE} after "dev"'),
    ("route add 10.0.0.0/8 dev ..", "route add", "..", f'{DEVICE} after "dev"'),
    ("route add 10.0.0.0/8 m x", "route add", "x", 'a number of 0 to 4294967295 is expected after "m"'),
    ("route add 10.0.0.0/8 metric -1", "route add", "-1", 'a number of 0 to 4294967295 is expected after "metric"'),
    ("route add 10.0.0.0/8 metric 010", "route add", "010", 'a number of 0 to 4294967295 is expected after "metric"'),
    ("route add 10.0.0.0/8 metric ٣", "route add", "٣", 'a number of 0 to 4294967295 is expected after "metric"'),
    (
        "route add 10.0.0.0/8 mtu 4294967296",
        "route add",
        "4294967296",
        'a number of bytes of 0 to 4294967295 is expected after "mtu"',
    ),
    (
        "route add 10.0.0.0/8 proto 256",
        "route add",
        "256",
        'a routing protocol\'s name or number 0 to 255 is expected after "proto"',
    ),
    ("route add 10.0.0.0/8 nexthop", "route add", None, 'via, dev or weight is expected after "nexthop"'),
    ("route add 10.0.0.0/8 nexthop nexthop", "route add", "nexthop", "via, dev or weight is expected"),
    ("route add 10.0.0.0/8 nexthop dev d metric 1", "route add", "metric", "via, weight or nexthop is expected"),
    (
        "route add 10.0.0.0/8 nexthop dev d weight 0",
        "route add",
        "0",
        'a number of 1 to 256 is expected after "weight"',
    ),
    (
        "route add 10.0.0.0/8 dev d nexthop via 10.1.1.1",
        "route add",
        "nexthop",
        "dev belongs behind nexthop when there is one",
    ),
    ("route show table 7", "route show", "7", 'a table: main, local or all is expected after "table"'),
    ("route get", "route get", None, ADDRESS),
    ("route get 10.0.0.0/8", "route get", "10.0.0.0/8", ADDRESS),
    ("route get 10.0.0.1 oif eth0", "route get", "oif", 'ip\'s "oif" is not offered; use from or iif'),
    ("addr add 10.0.0.1/24", "addr add", None, '"dev" is expected'),
    ("addr add dev eth0", "addr add", None, "an IPv4 address such as 10.0.0.1/24 is expected"),
    ("addr add 10.0.0.1/24 brd + dev eth0", "addr add", "brd", "dev is expected"),
    ("addr show up", "addr show", "up", 'ip\'s "up" is not offered; use dev'),
    ("addr show eth0 eth1", "addr show", "eth1", "nothing more is expected"),
    ("link set", "link set", None, DEVICE),
    ("link set eth0", "link set", None, LINK_WORDS),
    ("link set eth0 name wan", "link set", "name", LINK_WORDS),
    ("link set eth0 martians some", "link set", "some", 'strict or linux is expected after "martians"'),
    ("link set eth0 reverse-path on", "link set", "on", 'off, loose or strict is expected after "reverse-path"'),
    ("link set eth0 proxy-arp yes", "link set", "yes", 'on or off is expected after "proxy-arp"'),
    ("link set eth0 redirects", "link set", None, 'on or off is expected after "redirects"'),
    ("link set eth0 up down", "link set", "down", "down is given already"),
    (
        "link set eth0 mtu 99999999999",
        "link set",
        "99999999999",
        'a number of bytes of 0 to 2147483647 is expected after "mtu"',
    ),
    (
        "link set eth0 address 02:00:00:00:00",
        "link set",
        "02:00:00:00:00",
        'a MAC address such as 02:00:00:00:00:01 is expected after "address"',
    ),
    ("neigh show eth0", "neigh show", "eth0", "an IPv4 address is expected"),
    ("counters eth0 eth1", "counters", "eth1", "nothing more is expected"),
]


@pytest.mark.parametrize(("line", "command", "token", "problem"), WRONG)
def test_a_wrong_line_names_the_token_and_what_was_expected(
    line: str, command: str, token: str | None, problem: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(line.split())
    what = "the command line is not complete" if token is None else f'"{token}"'
    assert caught.value.token == token
    assert caught.value.message == f"{command}: {what}: {problem}".removeprefix(": ")


def test_an_error_shows_the_usage_of_its_verb() -> None:
    with pytest.raises(UsageError) as caught:
        parse(["addr", "add", "10.0.0.1/24"])
    assert caught.value.usage == "addr {add|change|replace|del} ADDRESS/LENGTH dev NAME"
    assert usage_of("addr.add") == caught.value.usage
    assert caught.value.usage in usage_lines("addr")
    assert caught.value.usage not in usage_lines("route")


def test_a_token_that_a_terminal_would_obey_is_shown_escaped() -> None:
    with pytest.raises(UsageError, match=r'"\\x1b\[31m\\udcff"') as caught:
        parse(["route", "add", "\x1b[31m\udcff"])
    assert caught.value.message.isprintable()


WORDS = sorted({word for line, _, _ in ROUTES + OTHERS + ABBREVIATIONS for word in line.split()})
TOKENS = st.sampled_from(WORDS) | st.text(max_size=20) | st.text(string.digits + "./:x", max_size=18)


def outcome(tokens: list[str]) -> Request | UsageError:
    """Return what `parse` returns or raises."""
    try:
        return parse(tokens)
    except UsageError as error:
        return error


@given(st.lists(TOKENS, max_size=12))
def test_any_tokens_are_a_request_or_a_usage_error(tokens: list[str]) -> None:
    result = outcome(tokens)
    if isinstance(result, UsageError):
        assert result.token is None or result.token in tokens
        assert result.usage
        assert result.message.isprintable()
    else:
        assert result.method in {HELP, VERSION} or usage_of(result.method)
        msgpack.packb(dict(result.params))  # what the bus does with it: no surrogate, no odd type


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_destination_is_refused_exactly_when_host_bits_are_set(address: int, length: int) -> None:
    text = f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}/{length}"
    if address % 2 ** (32 - length):
        with pytest.raises(UsageError, match="Invalid argument"):
            parse(["route", "add", text])
    else:
        assert parse(["route", "add", text]).params["dst"] == (text if length else "default")
