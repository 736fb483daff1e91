"""Frames to throw at a router: valid ones, ones with one thing wrong, and noise. All from one seed."""

import random
import struct
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from tests.oracle.router import Arrival, with_checksum

ODD_ADDRESSES = [
    IPv4Address(text)
    for text in (
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "169.254.7.7",
        "224.0.0.5",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.254",
        "255.255.255.255",
        "100.64.0.1",
        "223.255.255.255",
    )
]
OPTIONS = [
    b"\x01\x01\x01\x00",  # no operation, end
    b"\x07\x07\x04\x00\x00\x00\x00\x00",  # record route
    b"\x44\x08\x05\x00\x00\x00\x00\x00",  # timestamp
    b"\x94\x04\x00\x00",  # router alert, RFC 2113
    b"\x83\x07\x04\x0a\x00\x00\x01\x00",  # loose source route
    b"\x01\x89\x07\x04\x0a\x00\x00\x01",  # strict source route behind a no operation
    b"\x00\x83\x03\x04",  # what stands behind the end is no option
    b"\x07\x01\x83\x03",  # a length that no option has
    b"\x07\xff\x83\x03",  # one that reaches past the header
    b"\x01\x01\x01\x83",  # cut off
    b"\x82\x0b" + bytes(10),  # security, RFC 1108
]
FRAGMENT_WORDS = [0, 0, 0, 0x4000, 0x4000, 0x4000, 0x2000, 0x0010, 0x2010, 0x8000, 0x7FFF]
GSO = [(1, 1448), (0x81, 1400), (5, 1400), (3, 1480), (1, 8), (4, 1448), (1, 65_535)]


class FrameMaker:
    """Makes frames between given addresses."""

    def __init__(self, seed: int, addresses: Sequence[IPv4Address]) -> None:
        self._random = random.Random(seed)
        self._addresses = addresses

    def arrival(self) -> Arrival:
        """Return one frame: three of four are good datagrams, the rest have something wrong."""
        chance = self._random.random()
        virtio = bytes(10)
        if chance < 0.04:
            return Arrival(self._random.randbytes(self._random.randint(14, 120)), self._packet_type())
        datagram = self._datagram()
        if chance < 0.20:
            datagram = self._random.choice(self._faults())(datagram)
        elif chance < 0.28:
            virtio, datagram = self._super_frame()
        ethertype = b"\x86\xdd" if chance > 0.98 else b"\x08\x00"
        padding = bytes(self._random.choice((0, 0, 0, 1, 26, 46)))
        frame = self._random.randbytes(12) + ethertype + datagram + padding
        return Arrival(frame, self._packet_type(), virtio, entry_is_true=self._random.random() > 0.01)

    def _packet_type(self) -> int:
        return self._random.choices((0, 1, 2, 3, 77), (90, 4, 2, 3, 1))[0]

    def _source(self) -> IPv4Address:
        """Mostly a host far away, whom no test's routes name; sometimes an address that routes do name."""
        if self._random.random() < 0.9:
            return IPv4Address("198.51.100.0") + self._random.randrange(256)  # RFC 5737
        return self._destination()

    def _destination(self) -> IPv4Address:
        if self._random.random() < 0.05:
            return self._random.choice(ODD_ADDRESSES)
        if self._random.random() < 0.05:
            return IPv4Address(self._random.getrandbits(32))
        return self._random.choice(self._addresses)

    def _datagram(self, payload: bytes | None = None) -> bytes:
        pick = self._random
        if payload is None:
            payload = pick.randbytes(pick.choice((0, 1, 7, 8, 9, 20, 26, 100, 556, 1279, 1280, 1479, 1480, 1481)))
        protocol, fragment = pick.choice((1, 6, 17, 17, 89, pick.getrandbits(8))), pick.choice(FRAGMENT_WORDS)
        if pick.random() < 0.1:
            protocol, fragment = 1, pick.choice((0, 0, 0, 0x4000, 0x2000, 1))
            payload = bytes((pick.choice((8, 8, 8, 0, 3)),)) + payload[1:]
        options = pick.choice(OPTIONS) if pick.random() < 0.12 else b""
        head = struct.pack(
            "!BBHHHBBHII",
            0x45 + len(options) // 4,
            pick.getrandbits(8),
            20 + len(options) + len(payload),
            pick.getrandbits(16),
            fragment,
            pick.choice((64, 64, 64, 64, 255, 128, 2, 1, 0, pick.getrandbits(8))),
            protocol,
            0,
            int(self._source()),
            int(self._destination()),
        )
        return with_checksum(head + options + payload)

    def _super_frame(self) -> tuple[bytes, bytes]:
        """A frame that stands for several (GSO), and some whose virtio header says so of a small frame."""
        pick = self._random
        gso_type, gso_size = pick.choice(GSO)
        tcp = pick.randbytes(12) + bytes((pick.choice((0x50, 0x80, 0xF0, pick.getrandbits(8))),)) + pick.randbytes(7)
        size = pick.choice((0, 30, 1448, 2896, 30_000, 65_495)) if pick.random() < 0.3 else pick.choice((100, 2896))
        datagram = self._datagram((tcp + bytes(size))[: 65_440 if pick.random() < 0.9 else 12])
        return struct.pack("=BBHHHH", 1, gso_type, 54, gso_size, 34, 16), datagram

    def _faults(self) -> list[Callable[[bytes], bytes]]:
        pick = self._random

        def bit_flipped(datagram: bytes) -> bytes:
            at = pick.randrange(min(20, len(datagram)))
            return datagram[:at] + bytes((datagram[at] ^ 1 << pick.randrange(8),)) + datagram[at + 1 :]

        def bit_flipped_and_summed(datagram: bytes) -> bytes:
            return with_checksum(bit_flipped(datagram))

        def cut(datagram: bytes) -> bytes:
            return datagram[: pick.randrange(len(datagram))]

        def other_header_length(datagram: bytes) -> bytes:
            return with_checksum(bytes((0x40 | pick.randrange(16),)) + datagram[1:])

        def other_total_length(datagram: bytes) -> bytes:
            length = pick.choice((0, 19, 20, len(datagram) - 1, len(datagram) + 1, len(datagram) + 60, 65_535))
            return with_checksum(datagram[:2] + struct.pack("!H", length % 65_536) + datagram[4:])

        def other_version(datagram: bytes) -> bytes:
            return with_checksum(bytes((pick.randrange(16) << 4 | datagram[0] & 15,)) + datagram[1:])

        def checksum_of_ones(datagram: bytes) -> bytes:
            return datagram[:10] + pick.choice((b"\xff\xff", b"\0\0")) + datagram[12:]

        def scribbled(datagram: bytes) -> bytes:
            mutated = bytearray(datagram)
            for _ in range(pick.randint(1, 6)):
                mutated[pick.randrange(min(60, len(mutated)))] = pick.getrandbits(8)
            return bytes(mutated)

        def scribbled_and_summed(datagram: bytes) -> bytes:
            return with_checksum(scribbled(datagram))

        return [
            bit_flipped,
            bit_flipped_and_summed,
            scribbled,
            scribbled_and_summed,
            cut,
            other_header_length,
            other_total_length,
            other_version,
            checksum_of_ones,
        ]
