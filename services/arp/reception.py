"""Checking what comes in as ARP (RFC 826, "Packet Reception"; RFC 1812 section 3.3.2)."""

from collections.abc import Callable
from typing import Final

from services.arp.links import Link
from services.common.counters import Counter
from services.common.messages import Frame
from services.common.wire import arp, ethernet, ipv4, virtio_net
from services.common.wire.errors import WireError

FRAME_START: Final = virtio_net.HEADER_BYTES
PAYLOAD_START: Final = FRAME_START + ethernet.HEADER_BYTES


def read_message(frame: Frame, link: Link, is_known: Callable[[int], bool]) -> arp.ArpMessage | Counter:
    """Return the ARP message in a frame, or the counter of the reason why it is dropped.

    :param is_known: tells of an address outside of the link's prefixes whether it is a neighbour all the same.
    """
    data = bytes(frame.data)
    if len(data) < PAYLOAD_START:
        return Counter.DROP_RUNT
    if frame.packet_type == ethernet.PACKET_OTHERHOST:
        return Counter.DROP_FOREIGN_MAC
    if ethernet.ethertype_of(data[FRAME_START:]) != ethernet.ETHERTYPE_ARP:
        return Counter.DROP_ARP_MALFORMED
    try:
        message = arp.parse(data[PAYLOAD_START:])
    except WireError:
        return Counter.DROP_ARP_MALFORMED
    return message if _is_possible_sender(message, link, is_known) else Counter.DROP_ARP_SENDER


def _is_possible_sender(message: arp.ArpMessage, link: Link, is_known: Callable[[int], bool]) -> bool:
    mac, address = message.sender_mac, message.sender_ip
    if ethernet.is_group(mac) or mac == ethernet.NO_MAC:
        return False
    if address == 0:
        return message.operation == arp.REQUEST  # a probe: RFC 5227 section 2.1.1
    if address in link.own:
        return True
    if mac == link.mac or not ipv4.names_single_host(address) or link.is_broadcast(address):
        return False
    return link.holds(address) or is_known(address)
