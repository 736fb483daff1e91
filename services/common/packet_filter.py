"""Which frames a capture wants: a small program of comparisons, which runs on the numbers in a frame's headers.

The program is a table of instructions, each (FIELD, MASK, LOW, HIGH, YES, NO): where LOW <= field & MASK <= HIGH, the
instruction YES comes next, else NO; ACCEPT and REJECT end it. A field that a frame does not have is ABSENT, and lies
in no range. Jumps go forward only, so a program ends. `control.cli.filter_grammar` writes such programs, compiled code
runs them (`observer`), and `matches` here is the same in Python.
"""

from collections.abc import Sequence
from typing import Final

from services.common.wire import arp, ethernet, ipv4

# Fields of a frame
ETHERTYPE: Final = 0
SOURCE: Final = 1
"""IPv4 address; of an ARP message its sender's."""
DESTINATION: Final = 2
"""IPv4 address; of an ARP message its target's."""
PROTOCOL: Final = 3
"""Of IPv4."""
SOURCE_PORT: Final = 4
"""Of TCP and UDP; only in a first fragment."""
DESTINATION_PORT: Final = 5
LENGTH: Final = 6
"""Bytes of the Ethernet frame."""
FIELDS: Final = 7
ABSENT: Final = -1

# Places in an instruction
FIELD: Final = 0
MASK: Final = 1
LOW: Final = 2
HIGH: Final = 3
YES: Final = 4
NO: Final = 5
INSTRUCTION_WORDS: Final = 6

ACCEPT: Final = -1
REJECT: Final = -2
MAX_INSTRUCTIONS: Final = 128

ARP_SENDER: Final = 14
"""Where a message of ARP has its sender's IPv4 address (RFC 826), and its target's."""
ARP_TARGET: Final = 24
PORT_PROTOCOLS: Final = (ipv4.PROTOCOL_TCP, ipv4.PROTOCOL_UDP)

Instruction = tuple[int, int, int, int, int, int]
Program = Sequence[Instruction]


def is_sound(program: Program) -> bool:
    """Tell whether a program ends, whatever it is run on: not too long, jumps that go forward, fields that exist."""
    size = len(program)
    return size <= MAX_INSTRUCTIONS and all(
        0 <= instruction[FIELD] < FIELDS
        and all(jump in (ACCEPT, REJECT) or place < jump < size for jump in (instruction[YES], instruction[NO]))
        for place, instruction in enumerate(program)
    )


def fields_of(frame: bytes, length: int) -> list[int]:
    """Return the fields of an Ethernet frame, which may be cut; `length` is what it was."""
    fields = [ABSENT] * FIELDS
    fields[LENGTH] = length
    if len(frame) < ethernet.HEADER_BYTES:
        return fields
    fields[ETHERTYPE] = ethernet.ethertype_of(frame)
    payload = frame[ethernet.HEADER_BYTES :]
    if fields[ETHERTYPE] == ethernet.ETHERTYPE_ARP and len(payload) >= arp.MESSAGE_BYTES:
        fields[SOURCE] = _number(payload, ARP_SENDER, 4)
        fields[DESTINATION] = _number(payload, ARP_TARGET, 4)
    elif fields[ETHERTYPE] == ethernet.ETHERTYPE_IPV4 and len(payload) >= ipv4.HEADER_BYTES:
        fields[SOURCE] = _number(payload, ipv4.SOURCE, 4)
        fields[DESTINATION] = _number(payload, ipv4.DESTINATION, 4)
        fields[PROTOCOL] = payload[ipv4.PROTOCOL]
        ports = (payload[0] & 0xF) * 4
        is_first = _number(payload, ipv4.FLAGS_FRAGMENT, 2) & ipv4.OFFSET_MASK == 0
        if fields[PROTOCOL] in PORT_PROTOCOLS and is_first and len(payload) >= ports + 4:
            fields[SOURCE_PORT] = _number(payload, ports, 2)
            fields[DESTINATION_PORT] = _number(payload, ports + 2, 2)
    return fields


def _number(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size], "big")


def matches(program: Program, fields: Sequence[int]) -> bool:
    """Tell whether a sound program accepts a frame of these fields; an empty one accepts all."""
    place = 0 if program else ACCEPT
    while place >= 0:
        field, mask, low, high, yes, no = program[place]
        place = yes if fields[field] != ABSENT and low <= fields[field] & mask <= high else no
    return place == ACCEPT
