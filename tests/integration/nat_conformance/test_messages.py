"""The reader of what arrives: no wrong checksum gets past it."""

import pytest
from conformance.datagrams import hand_made_fragments, payload, with_checksum
from scapy.packet import Packet

from nat_conformance.messages import check, data_of, error, joined, query, tcp, udp

ETHERNET = bytes.fromhex("020000000001 020000000002 0800")
INSIDE, REMOTE = ("172.17.0.1", 20_000), ("172.19.0.1", 7000)


def changed(datagram: Packet | bytes, place: int) -> bytes:
    """Return a datagram with one byte changed, its header's checksum right."""
    data = bytes(datagram)
    return with_checksum(data[:place] + bytes((data[place] ^ 1,)) + data[place + 1 :])


GOOD = {
    "udp": udp(INSIDE, REMOTE),
    "tcp": tcp(INSIDE, REMOTE, "PA", b"odd"),
    "query": query(INSIDE, REMOTE[0]),
    "error": error(REMOTE[0], bytes(udp(INSIDE, REMOTE))),
}


@pytest.mark.parametrize("kind", GOOD)
def test_right_and_wrong_transport_checksums(kind: str) -> None:
    good = GOOD[kind]
    check([ETHERNET + bytes(good) + bytes(6)])  # padding is no part of it
    for place in (20, len(bytes(good)) - 1):
        with pytest.raises(AssertionError, match="checksum"):
            check([ETHERNET + changed(good, place)])


def test_the_header_s_checksum() -> None:
    data = bytes(GOOD["udp"])
    with pytest.raises(AssertionError, match="IP header checksum"):
        check([ETHERNET + data[:8] + b"\x01" + data[9:]])


def test_addresses_belong_to_the_sum() -> None:
    with pytest.raises(AssertionError, match="UDP checksum"):
        check([ETHERNET + changed(GOOD["udp"], 15)])


def test_udp_without_a_checksum() -> None:
    data = bytes(GOOD["udp"])
    check([ETHERNET + changed(data[:26] + b"\0\0" + data[28:], 40)])


def test_the_quoted_header_s_checksum() -> None:
    quote = bytes(GOOD["udp"])
    with pytest.raises(AssertionError, match="checksum of the quoted header"):
        check([ETHERNET + bytes(error(REMOTE[0], quote[:8] + b"\x01" + quote[9:]))])


def test_fragments_are_put_together() -> None:
    whole = udp(INSIDE, REMOTE, payload(1400))
    parts = hand_made_fragments(whole, 512)
    assert joined([bytes(part) for part in reversed(parts)]) is not None
    assert joined([bytes(part) for part in parts[1:]]) is None
    assert joined([bytes(part) for part in parts[:2]]) is None
    check([ETHERNET + bytes(part) for part in reversed(parts)])
    with pytest.raises(AssertionError, match="UDP checksum"):
        check([ETHERNET + bytes(parts[0]), ETHERNET + changed(parts[1], 30), ETHERNET + bytes(parts[2])])
    assert data_of(whole) == payload(1400)
