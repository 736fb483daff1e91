"""Readiness, health and sums, on a clock that the test turns."""

import pytest

from services.common.counters import Counter, Kind
from services.common.messages import Interface, InterfaceAddress, Neighbour, NeighbourState, Report
from services.control.reports import FORGET_S, MAX_INSTANCES, UNHEARD_S, Balance, Reports, ServiceHealth, balance
from services.control.status import Readiness, readiness
from services.control.view import KnownNeighbours

ETH2, ETH3 = 2, 3


def interface(index: int, *, up: bool = True) -> Interface:
    return Interface(
        index=index,
        name=f"eth{index}",
        mac=bytes((2, 0, 0, 0, 0, index)),
        mtu=1500,
        up=up,
        addresses=[InterfaceAddress(address=0x0A000001, prefix_length=24)],
    )


def service(name: str, *interfaces: int, ready: bool = True, age_s: float = 0.1, generation: int = 7) -> ServiceHealth:
    up = age_s <= UNHEARD_S
    return ServiceHealth(name, f"{name}-x", 1, age_s, up, ready and up, frozenset(interfaces), generation)


def judged(*services: ServiceHealth, interfaces: tuple[Interface, ...] = (), unsettled: str = "") -> Readiness:
    return readiness(
        unsettled=unsettled,
        interfaces=interfaces or (interface(ETH2), interface(ETH3)),
        services=services,
        first_generation=5,
        last_generation=9,
    )


INGRESSES = (service("ingress", ETH2), service("ingress", ETH3))
FORWARDER = service("forwarder", ETH2, ETH3)
ARP = service("arp", ETH2, ETH3)


def test_ready_when_all_serve_every_interface_that_is_up() -> None:
    assert judged(*INGRESSES, FORWARDER, ARP) == Readiness([], frozenset({ETH2, ETH3}))


def test_an_interface_that_is_down_is_not_waited_for_and_does_not_forward() -> None:
    interfaces = (interface(ETH2), interface(ETH3, up=False))
    assert judged(*INGRESSES, FORWARDER, ARP, interfaces=interfaces) == Readiness([], frozenset({ETH2}))


@pytest.mark.parametrize(
    ("forwarder", "waiting"),
    [
        (service("forwarder", ETH2, ETH3, ready=False), "forwarder: not ready yet"),
        (service("forwarder", ETH2, ETH3, age_s=2.04), "forwarder: silent for 2.0 s"),
        (service("forwarder", ETH2, ETH3, generation=4), "forwarder: has not taken over the present state yet"),
        (service("forwarder", ETH2, ETH3, generation=10), "forwarder: has not taken over the present state yet"),
    ],
)
def test_a_forwarder_that_is_not_there_yet(forwarder: ServiceHealth, waiting: str) -> None:
    assert judged(*INGRESSES, forwarder, ARP).waiting_for[0] == waiting


def test_at_the_start_everything_is_waited_for() -> None:
    assert judged(interfaces=(interface(ETH2),), unsettled="nothing is mirrored yet") == Readiness(
        [
            "the kernel's routes: nothing is mirrored yet",
            "forwarder: not heard of yet",
            "arp: not heard of yet",
            "eth2: not served by ingress and forwarder and arp yet",
        ],
        frozenset(),
    )


def test_the_interface_and_the_services_that_are_missing_are_named() -> None:
    answer = judged(INGRESSES[0], FORWARDER, service("arp", ETH2))
    assert answer == Readiness(["eth3: not served by ingress and arp yet"], frozenset({ETH2}))
    silent = judged(INGRESSES[0], service("ingress", ETH3, age_s=5.0), FORWARDER, ARP)
    assert silent.waiting_for == ["eth3: not served by ingress yet"]


# --- Reports ----------------------------------------------------------------------------------------------------------


def report(name: str, counters: dict[int, dict[str, int]] | None = None, *interfaces: int) -> Report:
    kind = name.partition("-")[0]
    return Report.model_validate(
        {
            "service": kind,
            "instance": name,
            "pid": 9,
            "ready": True,
            "interfaces": list(interfaces),
            "generation": 3,
            "counters": counters or {},
        }
    )


def test_health_by_the_age_of_the_last_report() -> None:
    reports = Reports()
    reports.take(report("forwarder", None, ETH2), now=100.0)
    reports.take(report("arp"), now=101.5)
    arp, forwarder = reports.health(now=102.0)
    assert arp == ServiceHealth("arp", "arp", 9, 0.5, True, True, frozenset(), 3)
    assert forwarder == ServiceHealth("forwarder", "forwarder", 9, 2.0, True, True, frozenset({ETH2}), 3)
    (_, forwarder) = reports.health(now=102.1)
    assert not forwarder.up
    assert not forwarder.ready
    reports.take(report("forwarder"), now=103.0)
    assert all(one.up for one in reports.health(now=103.0))


def test_an_ingress_is_forgotten_when_it_is_silent_and_its_interface_gone_but_its_counts_stay() -> None:
    reports = Reports()
    reports.take(report("ingress-eth2", {ETH2: {"RX_FRAMES": 5}}, ETH2), now=0.0)
    reports.take(report("ingress-eth3", {ETH3: {"RX_FRAMES": 7}}, ETH3), now=0.0)
    reports.take(report("forwarder", None, ETH3), now=0.0)
    reports.forget_gone({ETH2}, now=FORGET_S)
    assert len(reports.health(now=FORGET_S)) == 3
    reports.forget_gone({ETH2}, now=FORGET_S + 1)
    assert [one.instance for one in reports.health(now=FORGET_S + 1)] == ["forwarder", "ingress-eth2"]
    assert reports.by_interface() == {ETH2: {"RX_FRAMES": 5}, ETH3: {"RX_FRAMES": 7}}


def test_a_report_replaces_the_one_before_and_what_was_restored() -> None:
    reports = Reports()
    reports.take_counts("arp", {ETH2: {"WAITING": 3}})
    assert reports.by_instance() == {"arp": {ETH2: {"WAITING": 3}}}
    assert reports.health(now=0.0) == []
    reports.take(report("arp", {ETH2: {"WAITING": 1, "ARP_HANDLED": 2}}), now=0.0)
    assert reports.by_interface() == {ETH2: {"WAITING": 1, "ARP_HANDLED": 2}}


def test_the_number_of_instances_is_bounded_and_no_count_is_lost() -> None:
    reports = Reports()
    for number in range(MAX_INSTANCES + 10):
        reports.take(report(f"ingress-veth{number}", {number: {"RX_FRAMES": 1}}), now=float(number))
        reports.take(report("forwarder", {ETH2: {"FORWARDED": number}}), now=float(number))
    assert len(reports.by_instance()) == MAX_INSTANCES
    assert "forwarder" in reports.by_instance()
    assert "ingress-veth0" not in reports.by_instance()
    assert len(reports.health(now=0.0)) == MAX_INSTANCES
    assert balance(reports.by_interface()).received == MAX_INSTANCES + 10
    assert balance(reports.by_interface()).sent == MAX_INSTANCES + 9


def test_the_balance_sums_by_kind_and_leaves_details_out() -> None:
    by_interface = {
        0: {"GENERATED": 3, "BAD_MESSAGES": 100, "A_COUNTER_OF_ANOTHER_VERSION": 100},
        ETH2: {"RX_FRAMES": 50, "RX_BYTES": 5000, "DROP_NO_ROUTE": 4, "DROP_TX_FULL": 1, "LOCAL": 5},
        ETH3: {"FORWARDED": 30, "GENERATED_SENT": 2, "ECHO_ANSWERED": 6, "WAITING": 3, "HANDED": 100},
    }
    sums = balance(by_interface)
    assert sums == Balance(received=50, generated=3, sent=32, delivered=5, consumed=6, dropped=5, waiting=3)
    assert sums.in_flight == 2


def test_every_counter_has_its_place_in_the_balance() -> None:
    for counter in Counter:
        sums = vars(balance({ETH2: {counter.name: 1}}))
        assert sum(sums.values()) == (counter.kind is not Kind.DETAIL)
        assert counter.kind is Kind.DETAIL or sums[counter.kind.value] == 1


def test_neighbours_by_interface() -> None:
    def neighbour(index: int, address: int) -> Neighbour:
        return Neighbour(interface=index, address=address, mac=bytes(6))

    neighbours = KnownNeighbours()
    neighbours.apply(NeighbourState(full=True, neighbours=[neighbour(ETH2, 1), neighbour(ETH2, 2), neighbour(ETH3, 1)]))
    neighbours.apply(NeighbourState(neighbours=[neighbour(ETH2, 1)], gone=[(ETH2, 2), (ETH3, 9)]))
    assert (neighbours.of(ETH2), neighbours.of(ETH3), neighbours.of(9)) == ({1: bytes(6)}, {1: bytes(6)}, {})
    neighbours.apply(NeighbourState(full=True))
    assert (neighbours.of(ETH2), neighbours.of(ETH3)) == ({}, {})
