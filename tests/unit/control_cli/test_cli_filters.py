"""Filters: which frames they let through, and what they say of a text that is none."""

import random
import struct

import pytest

from services.common import packet_filter as pf
from services.control.cli.filter_grammar import FilterError, compile_filter


def ip(source: str, destination: str, protocol: int, payload: bytes, *, fragment: int = 0) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 1, fragment, 64, protocol, 0)
    addresses = bytes(map(int, source.split("."))) + bytes(map(int, destination.split(".")))
    return bytes(12) + b"\x08\x00" + head + addresses + payload


TCP = ip("10.0.0.1", "192.168.5.7", 6, struct.pack("!HH", 40_000, 443) + bytes(16))
UDP = ip("192.168.5.7", "10.0.0.1", 17, struct.pack("!HH", 53, 5353) + bytes(4))
ICMP = ip("10.0.0.1", "10.0.0.2", 1, bytes(8))
TAIL = ip("10.0.0.1", "192.168.5.7", 6, struct.pack("!HH", 40_000, 443) + bytes(16), fragment=8)
OSPF = ip("10.0.0.9", "224.0.0.5", 89, bytes(44))
ARP = bytes(12) + bytes.fromhex("0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")
IPV6 = bytes(12) + b"\x86\xdd" + bytes(40)
FRAMES = {"tcp": TCP, "udp": UDP, "icmp": ICMP, "tail": TAIL, "ospf": OSPF, "arp": ARP, "ipv6": IPV6}

FILTERS = {
    "": "tcp udp icmp tail ospf arp ipv6",
    "ip": "tcp udp icmp tail ospf",
    "arp": "arp",
    "icmp": "icmp",
    "tcp": "tcp tail",
    "udp": "udp",
    "proto 89": "ospf",
    "ip proto ospf": "ospf",
    "host 10.0.0.1": "tcp udp icmp tail arp",
    "src host 10.0.0.1": "tcp icmp tail arp",
    "src 10.0.0.1": "tcp icmp tail arp",
    "dst 10.0.0.2": "icmp arp",
    "net 10.0.0.0/24": "tcp udp icmp tail ospf arp",
    "dst net 10.0.0.0/24": "udp icmp arp",
    "src net 192.168.0.0/16": "udp",
    "port 443": "tcp",
    "dst port 443": "tcp",
    "src port 443": "",
    "tcp port 53": "",
    "udp port 53": "udp",
    "udp src port 53": "udp",
    "portrange 5000-6000": "udp",
    "dst portrange 400-500": "tcp",
    "less 42": "udp icmp arp",
    "greater 58": "ospf",
    "not ip": "arp ipv6",
    "! arp": "tcp udp icmp tail ospf ipv6",
    "not not arp": "arp",
    "tcp and port 443": "tcp",
    "tcp or udp": "tcp tail udp",
    "tcp && dst port 443 || arp": "tcp arp",
    # of the same rank, from the left: pcap-filter(7)
    "arp or tcp and port 443": "tcp",
    "arp or (tcp and port 443)": "tcp arp",
    "not (tcp or udp or arp) and ip": "icmp ospf",
    "not tcp and not udp": "icmp ospf arp ipv6",
    "host 10.0.0.1 and not (port 443 or port 53)": "icmp tail arp",
}


@pytest.mark.parametrize("text", FILTERS)
def test_what_a_filter_lets_through(text: str) -> None:
    program = compile_filter(text)
    assert pf.is_sound(program)
    passed = [name for name, frame in FRAMES.items() if pf.matches(program, pf.fields_of(frame, len(frame)))]
    assert set(passed) == set(FILTERS[text].split())


@pytest.mark.parametrize(
    ("text", "token", "expected"),
    [
        ("host 1.2.3", "1.2.3", "an IPv4 address is expected"),
        ("host", None, "an IPv4 address is expected"),
        ("net 10.0.0.1/8", "10.0.0.1/8", "a prefix such as 10.0.0.0/8 is expected"),
        ("tcp porr 80", "porr", '"and" or "or" is expected'),
        ("port http", "http", "a number of 0 to 65535 is expected"),
        ("port 65536", "65536", "a number of 0 to 65535 is expected"),
        ("portrange 9-3", "9-3", "two ports such as 8000-8010 are expected".replace("are", "is")),
        ("(tcp or udp", None, '")", "and" or "or" is expected'),
        ("tcp)", ")", '"and" or "or" is expected'),
        ("tcp and", None, "host, net, src"),
        ("and tcp", "and", "host, net, src"),
        ("10.0.0.1", "10.0.0.1", "host, net, src"),
        ("proto nonsense", "nonsense", "a protocol's number 0 to 255"),
        ("less x", "x", "a number of 0 to"),
        ("host 10.0.0.1 & port 3", "&", '"and" or "or" is expected'),
        ("src", None, "an IPv4 address is expected"),
        ("tcp src 80", "80", "port or portrange is expected"),
    ],
)
def test_an_error_names_the_token_and_what_was_expected(text: str, token: str | None, expected: str) -> None:
    with pytest.raises(FilterError) as raised:
        compile_filter(text)
    assert raised.value.token == token
    assert expected in str(raised.value)


@pytest.mark.parametrize(
    "text", [" or ".join(["port 1"] * 100), "(" * 5000 + "tcp" + ")" * 5000, "not " * 5000 + "tcp"]
)
def test_a_filter_has_an_end(text: str) -> None:
    with pytest.raises(FilterError, match="too"):
        compile_filter(text)


def test_any_text_gives_a_sound_program_or_the_one_error() -> None:
    words = "host net src dst port portrange ip arp icmp tcp udp proto less greater and or not ( ) ! 10.0.0.1 80 1-2 x"
    for seed in range(3000):
        draw = random.Random(seed)
        text = " ".join(draw.choices(words.split(), k=draw.randrange(8)))
        try:
            assert pf.is_sound(compile_filter(text)), text
        except FilterError:
            continue


def test_any_bytes_have_fields() -> None:
    for seed in range(500):
        draw = random.Random(seed)
        frame = draw.choice(list(FRAMES.values()))[: draw.randrange(60)]
        fields = pf.fields_of(frame, len(frame))
        assert len(fields) == pf.FIELDS
        assert fields[pf.LENGTH] == len(frame)
