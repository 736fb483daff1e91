"""From an instance that is wanted to one that is a process, and what a fork server that dies does to it."""

import signal

from services.launcher.up.births import Births
from services.launcher.up.fork_protocol import Order

ARP = Order("arp", "services.arp", ("--run-dir", "/run/x"))
CONTROL = Order("control", "services.control", ())
WAN = Order("ingress-wan", "services.ingress", ("--interface", "wan"))
LAN = Order("ingress-lan", "services.ingress", ("--interface", "lan"))


def births(*wanted: Order, loaded: tuple[str, ...] = ()) -> Births:
    result = Births()
    for package in loaded:
        result.on_loaded(package)
    for order in wanted:
        result.want(order)
    return result


def test_orders_who_is_loaded_one_after_the_other() -> None:
    line = births(ARP, WAN, LAN)
    assert line.next_order() is None
    line.on_loaded("services.ingress")
    assert line.next_order() == WAN
    assert line.next_order() is None, "the first is not answered yet"
    assert line.on_answer() is None
    assert line.next_order() == LAN
    line.on_answer()
    assert line.next_order() is None
    line.on_loaded("services.arp")
    assert line.next_order() == ARP


def test_somebody_is_pending_until_the_last_order_is_answered() -> None:
    line = births(ARP, loaded=("services.arp",))
    assert line.pending
    line.next_order()
    assert line.pending
    line.on_answer()
    assert not line.pending


def test_who_only_waits_can_be_withdrawn() -> None:
    line = births(ARP, CONTROL, loaded=("services.control", "services.arp"))
    assert line.withdraw("arp", signal.SIGTERM)
    assert not line.withdraw("arp", signal.SIGTERM)
    assert line.next_order() == CONTROL
    line.on_answer()
    assert line.next_order() is None


def test_who_is_ordered_gets_its_signal_when_it_is_there() -> None:
    line = births(ARP, CONTROL, loaded=("services.arp", "services.control"))
    assert line.next_order() == ARP
    assert not line.withdraw("arp", signal.SIGTERM)
    assert not line.withdraw("arp", signal.SIGKILL)
    assert line.on_answer() == signal.SIGKILL
    assert line.next_order() == CONTROL
    assert line.on_answer() is None, "the signal was not for this one"


def test_who_was_ordered_of_a_server_that_died_waits_for_the_next() -> None:
    line = births(ARP, loaded=("services.arp",))
    line.next_order()
    assert line.on_server_end() == []
    assert line.next_order() is None, "nothing is loaded by the next one"
    line.on_loaded("services.arp")
    assert line.next_order() == ARP


def test_who_was_to_end_does_not_come_from_the_next_server() -> None:
    line = births(ARP, loaded=("services.arp",))
    line.next_order()
    line.withdraw("arp", signal.SIGTERM)
    assert line.on_server_end() == [("arp", signal.SIGTERM)]
    line.on_loaded("services.arp")
    assert line.next_order() is None
    assert line.on_server_end() == []
