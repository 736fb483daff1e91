"""What people see of a result, line by line. The results are written as `ip -j` and the RPC's contract give them."""

from typing import Any

from services.control.cli.tables import as_text
from services.control.cli.views import DETAILED_VIEWS, VIEWS


def shown(method: str, result: Any) -> list[str]:
    """Return the lines of the plain view."""
    return as_text(VIEWS[method](result)).splitlines()


def test_routes_have_the_columns_that_one_of_them_needs() -> None:
    routes = [
        {"dst": "default", "gateway": "192.168.0.9", "dev": "eth1", "protocol": "static", "scope": "global"},
        {
            "dst": "192.168.1.0/24",
            "dev": "eth0",
            "protocol": "kernel",
            "scope": "link",
            "prefsrc": "192.168.1.1",
            "flags": [],
        },
    ]
    assert shown("route.show", routes) == [
        "DESTINATION     VIA          DEV   PROTO   SCOPE   SRC",
        "default         192.168.0.9  eth1  static  global  -",
        "192.168.1.0/24  -            eth0  kernel  link    192.168.1.1",
    ]


def test_each_next_hop_of_a_multipath_route_has_its_line() -> None:
    routes = [
        {
            "dst": "10.0.0.0/8",
            "protocol": "boot",
            "metric": 20,
            "flags": [],
            "nexthops": [
                {"gateway": "10.9.0.2", "dev": "eth0", "weight": 2, "flags": []},
                {"gateway": "10.9.1.2", "dev": "eth1", "weight": 1, "flags": ["linkdown"]},
            ],
        },
        {"type": "blackhole", "dst": "10.66.0.0/16", "metrics": [{"mtu": 1400}], "flags": ["onlink", "dead"]},
    ]
    assert shown("route.show", routes) == [
        "DESTINATION   TYPE       VIA       DEV   WEIGHT  PROTO  SCOPE  METRIC   MTU  FLAGS",
        "10.0.0.0/8    -          10.9.0.2  eth0       2  boot   -          20     -  -",
        "                         10.9.1.2  eth1       1                              linkdown",
        "10.66.0.0/16  blackhole  -         -          -  -      -           -  1400  onlink,dead",
    ]


def test_routes_of_all_tables_name_their_table() -> None:
    routes = [{"dst": "10.0.0.1", "type": "local", "dev": "eth0", "scope": "host", "flags": [], "table": "local"}]
    assert shown("route.show", routes) == [
        "TABLE  DESTINATION  TYPE   VIA  DEV   PROTO  SCOPE",
        "local  10.0.0.1     local  -    eth0  -      host",
    ]


def test_no_routes_show_nothing() -> None:
    assert as_text(VIEWS["route.show"]([])) == ""


def test_route_get_shows_the_way_of_one_address() -> None:
    answer = {
        "dst": "10.2.3.4",
        "gateway": "192.168.0.9",
        "dev": "eth1",
        "prefix": "10.2.0.0/16",
        "mtu": 1500,
        "lladdr": None,
        "neighbour": "unresolved",
    }
    assert shown("route.get", answer) == [
        "DESTINATION  PREFIX       VIA          DEV   LLADDR  NEIGHBOUR    MTU",
        "10.2.3.4     10.2.0.0/16  192.168.0.9  eth1  -       unresolved  1500",
    ]


def test_every_address_of_an_interface_has_its_line() -> None:
    links = [
        {
            "ifindex": 2,
            "ifname": "eth0",
            "flags": ["BROADCAST", "UP"],
            "mtu": 1500,
            "operstate": "UP",
            "address": "02:00:00:00:00:01",
            "addr_info": [
                {"family": "inet", "local": "192.168.1.1", "prefixlen": 24, "scope": "global"},
                {"family": "inet", "local": "10.9.0.1", "prefixlen": 32, "scope": "link"},
            ],
        },
        {"ifindex": 13, "ifname": "eth1", "mtu": 9000, "operstate": "DOWN", "address": "02:00:00:00:00:02"},
    ]
    assert shown("addr.show", links) == [
        "INDEX  NAME  STATE   MTU  MAC                ADDRESS         SCOPE",
        "    2  eth0  UP     1500  02:00:00:00:00:01  192.168.1.1/24  global",
        "                                             10.9.0.1/32     link",
        "   13  eth1  DOWN   9000  02:00:00:00:00:02  -               -",
    ]


def test_links_show_their_flags() -> None:
    links = [{"ifindex": 2, "ifname": "eth0", "flags": ["BROADCAST", "UP"], "mtu": 1500, "operstate": "UP"}]
    assert shown("link.show", links) == [
        "INDEX  NAME  STATE   MTU  MAC  FLAGS",
        "    2  eth0  UP     1500  -    BROADCAST,UP",
    ]


def test_neighbours_show_their_age_and_who_waits() -> None:
    neighbours = [
        {
            "dst": "192.168.0.2",
            "dev": "eth1",
            "lladdr": "02:00:00:00:00:02",
            "state": ["REACHABLE"],
            "age_s": 3.14,
            "waiting_frames": 0,
            "waiting_bytes": 0,
        },
        {
            "dst": "192.168.0.77",
            "dev": "eth1",
            "state": ["INCOMPLETE"],
            "age_s": 0.5,
            "waiting_frames": 12,
            "waiting_bytes": 1008,
        },
    ]
    assert shown("neigh.show", neighbours) == [
        "ADDRESS       DEV   LLADDR             STATE         AGE  WAITING  BYTES",
        "192.168.0.2   eth1  02:00:00:00:00:02  REACHABLE   3.1 s        0      0",
        "192.168.0.77  eth1  -                  INCOMPLETE  0.5 s       12   1008",
    ]


def test_status_says_what_the_router_waits_for() -> None:
    status = {
        "version": "0.1.0",
        "ready": False,
        "waiting_for": ["arp: not heard of", "eth1: no ingress"],
        "warnings": ["policy routing rules are not followed"],
        "generation": 7,
        "interfaces": [
            {
                "index": 2,
                "name": "eth0",
                "mac": "02:00:00:00:00:01",
                "mtu": 1500,
                "up": True,
                "addresses": ["192.168.1.1/24", "10.0.0.1/8"],
                "forwarding": True,
            },
            {
                "index": 3,
                "name": "eth1",
                "mac": "02:00:00:00:00:02",
                "mtu": 1500,
                "up": False,
                "addresses": [],
                "forwarding": False,
            },
        ],
        "services": [
            {"service": "ingress", "instance": "ingress-eth0", "pid": 41, "age_s": 0.2, "up": True, "ready": True},
            {"service": "forwarder", "instance": "forwarder", "pid": 42, "age_s": 0.1, "up": True, "ready": False},
            {"service": "arp", "instance": "arp", "pid": 43, "age_s": 12.0, "up": False, "ready": True},
        ],
    }
    assert shown("status", status) == [
        "hopwire 0.1.0: not ready, state generation 7",
        "waits for: arp: not heard of",
        "waits for: eth1: no ingress",
        "warning: policy routing rules are not followed",
        "",
        "SERVICE    INSTANCE      PID       HEARD  STATE",
        "ingress    ingress-eth0   41   0.2 s ago  ready",
        "forwarder  forwarder      42   0.1 s ago  not ready",
        "arp        arp            43  12.0 s ago  down",
        "",
        "INDEX  INTERFACE  STATE  FORWARDS   MTU  MAC                ADDRESSES",
        "    2  eth0       up     yes       1500  02:00:00:00:00:01  192.168.1.1/24,10.0.0.1/8",
        "    3  eth1       down   no        1500  02:00:00:00:00:02  -",
    ]


def test_counters_show_interfaces_drops_details_and_the_balance() -> None:
    result = {
        "services": {},
        "interfaces": {
            "-": {"DROP_RESTARTED": 1, "BAD_MESSAGES": 2},
            "eth10": {"FORWARDED": 90, "TX_BYTES": 9000, "WAITING": 1, "GENERATED": 4, "GENERATED_SENT": 4},
            "eth2": {
                "RX_FRAMES": 123,
                "RX_BYTES": 12300,
                "FORWARDED": 22,
                "LOCAL": 2,
                "NOT_IPV4": 1,
                "ARP_HANDLED": 2,
                "DROP_TTL_EXCEEDED": 3,
                "DROP_NO_ROUTE": 1,
                "HANDED": 0,
            },
        },
        "balance": {
            "received": 123,
            "generated": 4,
            "sent": 116,
            "delivered": 3,
            "consumed": 2,
            "dropped": 5,
            "waiting": 1,
            "in_flight": 0,
        },
    }
    assert shown("counters", result) == [
        "INTERFACE  RECEIVED  FORWARDED  GENERATED  DELIVERED  CONSUMED  DROPPED  WAITING  RX BYTES  TX BYTES",
        "eth2            123         22          0          3         2        4        0     12300         0",
        "eth10             0         90          4          0         0        0        1         0      9000",
        "-                 0          0          0          0         0        1        0         0         0",
        "total           123        112          4          3         2        5        1     12300      9000",
        "",
        "DROPPED            INTERFACE  COUNT  MEANING",
        "DROP_TTL_EXCEEDED  eth2           3  the TTL ran out (ICMP 11/0)",
        "DROP_NO_ROUTE      eth2           1  no route to the destination (ICMP 3/0)",
        "DROP_RESTARTED     -              1  held by a service that was killed, or on the way to one",
        "",
        "DETAIL          INTERFACE  COUNT  MEANING",
        "GENERATED_SENT  eth10          4  generated frames sent",
        "LOCAL           eth2           2  IPv4 to the router itself, left to the kernel",
        "NOT_IPV4        eth2           1  neither IPv4 nor ARP, left to the kernel",
        "ARP_HANDLED     eth2           2  ARP messages taken by the resolver",
        "BAD_MESSAGES    -              2  malformed messages from the bus, dropped",
        "",
        "balance: received 123 + generated 4 = sent 116 + delivered 3 + consumed 2 + dropped 5 + waiting 1: balanced",
    ]


def test_frames_on_their_way_are_no_silent_loss() -> None:
    zeros = dict.fromkeys(("generated", "delivered", "consumed", "dropped", "waiting"), 0)
    result = {"interfaces": {}, "balance": {**zeros, "received": 10, "sent": 7, "in_flight": 3}}
    balance = "balance: received 10 + generated 0 = sent 7 + delivered 0 + consumed 0 + dropped 0 + waiting 0"
    assert shown("counters", result) == [f"{balance}: 3 under way"]
    for unaccounted, verdict in (
        (2, "2 UNACCOUNTED FOR: they came in, and have no fate"),
        (-2, "2 COUNTED TWICE: they have a fate, and never came in"),
        (0, "3 under way"),
    ):
        judged = {**result, "balance": {**result["balance"], "unaccounted": unaccounted}}
        assert shown("counters", judged) == [f"{balance}: {verdict}"]


def test_a_name_cannot_drive_the_terminal() -> None:
    assert shown("link.show", [{"ifname": "e\x1b[2J"}])[1].split() == ["-", "e?[2J", "-", "-", "-", "-"]


def test_details_of_a_link_are_its_policy() -> None:
    policy = {
        "reverse_path": "strict",
        "martians": "linux",
        "directed_broadcast": True,
        "redirects": False,
        "proxy_arp": False,
    }
    eth0 = {"ifindex": 2, "ifname": "eth0", "operstate": "UP", "mtu": 1500, "address": "02:00:00:00:00:01"}
    lo = {"ifindex": 1, "ifname": "lo", "operstate": "UNKNOWN", "mtu": 65536, "address": "00:00:00:00:00:00"}
    links = [lo | {"flags": ["UP"]}, eth0 | {"flags": ["UP"], "policy": policy}]
    assert as_text(DETAILED_VIEWS["link.show"](links)).splitlines() == [
        (
            "INDEX  NAME  STATE      MTU  MAC                REVERSE-PATH  MARTIANS  DIRECTED-BROADCAST  REDIRECTS  "
            "PROXY-ARP  FLAGS"
        ),
        (
            "    1  lo    UNKNOWN  65536  00:00:00:00:00:00  -             -         -                   -          "
            "-          UP"
        ),
        (
            "    2  eth0  UP        1500  02:00:00:00:00:01  strict        linux     on                  off        "
            "off        UP"
        ),
    ]


def test_address_translation() -> None:
    """Rules, the table's fill, and sessions: who began each, what it leaves as, there and back."""
    session = {
        "protocol": "tcp",
        "state": "tcp established",
        "original": {"src": "192.168.1.2", "sport": 1025, "dst": "198.51.100.7", "dport": 80},
        "reply": {"src": "198.51.100.7", "sport": 80, "dst": "192.168.0.1", "dport": 20001},
        "age_s": 12.3,
        "idle_s": 1.0,
        "expires_s": 7439.0,
        "packets": [3, 2],
        "bytes": [180, 120],
    }
    result = {
        "rules": [
            {"kind": "masquerade", "interface": "eth1", "inside": [], "addresses": [], "configured": True},
            {
                "kind": "forward",
                "protocol": "udp",
                "address": "192.168.0.1",
                "port": 53,
                "to": "192.168.1.3",
                "to_port": 5353,
                "configured": False,
            },
        ],
        "table": {
            "states": {"tcp established": 1, "udp": 0},
            "capacity": 16,
            "problems": [],
            "ports": [{"address": "192.168.0.1", "tcp": 1, "udp": 0, "icmp": 0}],
        },
        "sessions": [session],
        "next": 0,
    }
    lines = shown("nat.show", result)
    assert "masquerade  out of eth1         -                 configuration" in lines
    assert "forward     udp 192.168.0.1:53  192.168.1.3:5353  nat add" in lines
    assert lines[-1].split() == [
        *("tcp", "established", "192.168.1.2:1025", "198.51.100.7:80", "192.168.0.1:20001", "198.51.100.7:80"),
        *("12", "s", "7439", "s", "3/2", "180/120"),
    ]
    assert shown("nat.sessions", {"sessions": [session], "next": 7})[-1] == "nat sessions first 7"
