"""The neighbour's state machine: every row, brought about from outside on a virtual clock, and nothing but the rows."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.arp.actions import Action, Count, Publish, Return, SendArp, Transmit, Withdraw
from services.arp.resolver import Resolver
from services.arp.states import TRANSITIONS, Event, State
from services.common.counters import Counter
from services.common.messages import Frame, Interface, InterfaceAddress, RouterState
from services.common.parameters import ArpParameters, Parameters, PermanentNeighbour

ETH0 = 3
OWN = 0x0A000001  # 10.0.0.1/24
NEIGHBOUR = 0x0A000002
OTHER = 0x0A000003
OWN_MAC = bytes.fromhex("020000000001")
MAC = bytes.fromhex("020000000002")
NEW_MAC = bytes.fromhex("0200000000ff")
PERMANENT_MAC = bytes.fromhex("0200000000aa")
REQUEST, REPLY = 1, 2
HOST, BROADCAST = 0, 1  # packet types


@dataclass
class Driver:
    """A resolver with one interface, and a clock."""

    now: float = 1000.0
    resolver: Resolver = field(default_factory=lambda: Resolver(lambda: 0.5))  # REACHABLE lasts 30 s x 1.0
    permanent: tuple[PermanentNeighbour, ...] = ()

    def __post_init__(self) -> None:
        self.configure()
        self.timer()  # the second announcement of the router's own address, and the last

    def configure(self, *, up: bool = True, addresses: tuple[int, ...] = (OWN,)) -> list[Action]:
        interface = Interface(
            index=ETH0,
            name="eth0",
            mac=OWN_MAC,
            mtu=1500,
            up=up,
            addresses=[InterfaceAddress(address=each, prefix_length=24) for each in addresses],
        )
        parameters = Parameters(arp=ArpParameters(max_neighbours=2, permanent_neighbours=self.permanent))
        return self.resolver.on_router_state(RouterState(interfaces=[interface], parameters=parameters), self.now)

    @property
    def state(self) -> State:
        states = [State(each["state"]) for each in self.resolver.show(self.now) if each["dst"] == NEIGHBOUR]
        return states[0] if states else State.NONE

    def configure_permanent(self, *neighbours: PermanentNeighbour) -> list[Action]:
        self.permanent = neighbours
        return self.configure()

    def datagram(self, next_hop: int = NEIGHBOUR) -> list[Action]:
        return self.resolver.on_unresolved(Frame(1, ETH0, next_hop, HOST, False, bytes(80)), self.now)

    def used(self) -> list[Action]:
        return self.resolver.on_used([(ETH0, NEIGHBOUR)], self.now)

    def timer(self) -> list[Action]:
        """Go to the next deadline."""
        self.now = self.resolver.next_deadline()
        return self.resolver.on_time(self.now)

    def hear(self, operation: int, mac: bytes, target: int, packet_type: int, sender: int = NEIGHBOUR) -> list[Action]:
        message = bytes.fromhex("0001080006040000") + mac + sender.to_bytes(4, "big") + bytes(6)
        message = message[:7] + bytes((operation,)) + message[8:] + target.to_bytes(4, "big")
        frame = bytes(10) + OWN_MAC + mac + b"\x08\x06" + message
        return self.resolver.on_arp_frame(Frame(ETH0, 0, 0, packet_type, False, frame), self.now)

    def after_locktime(self) -> "Driver":
        self.now += 1.0
        return self


def none(driver: Driver) -> None:
    """Without an entry."""


def none_without_address(driver: Driver) -> None:
    driver.configure(addresses=())


def incomplete(driver: Driver) -> None:
    driver.datagram()


def incomplete_after_three_requests(driver: Driver) -> None:
    driver.datagram()
    driver.timer()
    driver.timer()


def reachable(driver: Driver) -> None:
    driver.datagram()
    driver.hear(REPLY, MAC, OWN, HOST)


def stale(driver: Driver) -> None:
    driver.hear(REQUEST, MAC, OWN, BROADCAST)


def delay(driver: Driver) -> None:
    stale(driver)
    driver.used()


def probe(driver: Driver) -> None:
    delay(driver)
    driver.timer()


def probe_after_three_requests(driver: Driver) -> None:
    probe(driver)
    driver.timer()
    driver.timer()


def failed(driver: Driver) -> None:
    probe_after_three_requests(driver)
    driver.timer()


def failed_to_resolve(driver: Driver) -> None:
    incomplete_after_three_requests(driver)
    driver.timer()


def permanent(driver: Driver) -> None:
    driver.configure_permanent(CONFIGURATION)


CONFIGURATION = PermanentNeighbour(interface="eth0", address="10.0.0.2", mac="02:00:00:00:00:aa")

STIMULI: dict[Event, Callable[[Driver], list[Action]]] = {
    Event.DATAGRAM: lambda driver: driver.datagram(),
    Event.USED: lambda driver: driver.used(),
    Event.TIMEOUT: lambda driver: driver.timer(),
    Event.INTRODUCED: lambda driver: driver.hear(REQUEST, MAC, OWN, BROADCAST),
    Event.REPLY: lambda driver: driver.hear(REPLY, MAC, OWN, HOST),
    Event.HINT: lambda driver: driver.hear(REQUEST, MAC, OTHER, BROADCAST),
    Event.REPLY_OTHER_MAC: lambda driver: driver.after_locktime().hear(REPLY, NEW_MAC, OWN, HOST),
    Event.HINT_OTHER_MAC: lambda driver: driver.after_locktime().hear(REPLY, NEW_MAC, NEIGHBOUR, BROADCAST),
    Event.CONFIGURED: lambda driver: driver.configure_permanent(CONFIGURATION),
    Event.UNCONFIGURED: lambda driver: driver.configure_permanent(),
    # The table holds two: a third next hop needs a place
    Event.EVICTED: lambda driver: [*driver.hear(REQUEST, MAC, OWN, BROADCAST, OTHER), *driver.datagram(OTHER + 1)],
    Event.LINK_DOWN: lambda driver: driver.configure(up=False),
    Event.REMOVED: lambda driver: driver.resolver.on_flush(ETH0, driver.now),
    Event.EXAMINED: lambda driver: driver.resolver.on_examine((ETH0, NEIGHBOUR), driver.now) or [],
}
STIMULI[Event.EXHAUSTED] = STIMULI[Event.TIMEOUT]
STIMULI[Event.DATAGRAM_REFUSED] = STIMULI[Event.DATAGRAM]

S, E = State, Event
TO_ALL, TO_IT, PUBLISH, WITHDRAW = "ask all", "ask it", "publish", "withdraw"
ROWS: list[tuple[Callable[[Driver], None], Event, State, list[str]]] = [
    (none, E.DATAGRAM, S.INCOMPLETE, ["wait", TO_ALL]),
    (none_without_address, E.DATAGRAM_REFUSED, S.NONE, ["return 1"]),
    (none, E.USED, S.INCOMPLETE, [TO_ALL]),
    (none, E.INTRODUCED, S.STALE, ["publish MAC"]),
    (none, E.EXAMINED, S.INCOMPLETE, [TO_ALL]),
    (none, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (incomplete, E.DATAGRAM, S.INCOMPLETE, ["wait"]),
    (incomplete, E.TIMEOUT, S.INCOMPLETE, [TO_ALL]),
    (incomplete_after_three_requests, E.EXHAUSTED, S.FAILED, ["return waiting 1"]),
    (incomplete, E.REPLY, S.REACHABLE, ["send waiting 1 to MAC", "publish MAC"]),
    (incomplete, E.HINT, S.STALE, ["send waiting 1 to MAC", "publish MAC"]),
    (incomplete, E.CONFIGURED, S.PERMANENT, ["send waiting 1 to PERMANENT_MAC", "publish PERMANENT_MAC"]),
    (incomplete, E.REMOVED, S.NONE, ["return waiting 1"]),
    (incomplete, E.EVICTED, S.NONE, ["DROP_NEIGHBOUR_TABLE"]),
    (incomplete, E.LINK_DOWN, S.NONE, ["DROP_UNKNOWN_INTERFACE"]),
    (reachable, E.DATAGRAM, S.REACHABLE, ["send 1 to MAC"]),
    (reachable, E.TIMEOUT, S.STALE, []),
    (reachable, E.REPLY, S.REACHABLE, []),
    (reachable, E.REPLY_OTHER_MAC, S.REACHABLE, ["publish NEW_MAC"]),
    (reachable, E.HINT_OTHER_MAC, S.STALE, ["publish NEW_MAC"]),
    (reachable, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (reachable, E.EXAMINED, S.PROBE, [TO_IT]),
    (reachable, E.REMOVED, S.NONE, [WITHDRAW]),
    (reachable, E.LINK_DOWN, S.NONE, [WITHDRAW]),
    (stale, E.DATAGRAM, S.DELAY, ["send 1 to MAC"]),
    (stale, E.USED, S.DELAY, []),
    (stale, E.TIMEOUT, S.NONE, [WITHDRAW]),
    (stale, E.REPLY, S.REACHABLE, []),
    (stale, E.HINT, S.STALE, []),
    (stale, E.REPLY_OTHER_MAC, S.REACHABLE, ["publish NEW_MAC"]),
    (stale, E.HINT_OTHER_MAC, S.STALE, ["publish NEW_MAC"]),
    (stale, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (stale, E.EVICTED, S.NONE, [WITHDRAW]),
    (stale, E.EXAMINED, S.PROBE, [TO_IT]),
    (stale, E.REMOVED, S.NONE, [WITHDRAW]),
    (stale, E.LINK_DOWN, S.NONE, [WITHDRAW]),
    (delay, E.DATAGRAM, S.DELAY, ["send 1 to MAC"]),
    (delay, E.TIMEOUT, S.PROBE, [TO_IT]),
    (delay, E.REPLY, S.REACHABLE, []),
    (delay, E.REPLY_OTHER_MAC, S.REACHABLE, ["publish NEW_MAC"]),
    (delay, E.HINT_OTHER_MAC, S.STALE, ["publish NEW_MAC"]),
    (delay, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (delay, E.EXAMINED, S.PROBE, [TO_IT]),
    (delay, E.REMOVED, S.NONE, [WITHDRAW]),
    (delay, E.LINK_DOWN, S.NONE, [WITHDRAW]),
    (probe, E.DATAGRAM, S.PROBE, ["send 1 to MAC"]),
    (probe, E.TIMEOUT, S.PROBE, [TO_IT]),
    (probe_after_three_requests, E.EXHAUSTED, S.FAILED, [WITHDRAW]),
    (probe, E.REPLY, S.REACHABLE, []),
    (probe, E.REPLY_OTHER_MAC, S.REACHABLE, ["publish NEW_MAC"]),
    (probe, E.HINT_OTHER_MAC, S.STALE, ["publish NEW_MAC"]),
    (probe, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (probe, E.REMOVED, S.NONE, [WITHDRAW]),
    (probe, E.LINK_DOWN, S.NONE, [WITHDRAW]),
    (failed, E.DATAGRAM, S.INCOMPLETE, ["wait", TO_ALL]),
    (failed_to_resolve, E.DATAGRAM_REFUSED, S.FAILED, ["return 1"]),
    (failed, E.USED, S.INCOMPLETE, [TO_ALL]),
    (failed, E.TIMEOUT, S.NONE, []),
    (failed_to_resolve, E.TIMEOUT, S.NONE, []),
    (failed, E.REPLY, S.REACHABLE, ["publish MAC"]),
    (failed, E.HINT, S.STALE, ["publish MAC"]),
    (failed, E.CONFIGURED, S.PERMANENT, ["publish PERMANENT_MAC"]),
    (failed, E.EXAMINED, S.INCOMPLETE, [TO_ALL]),
    (failed, E.REMOVED, S.NONE, []),
    (failed, E.EVICTED, S.NONE, []),
    (failed, E.LINK_DOWN, S.NONE, []),
    (permanent, E.DATAGRAM, S.PERMANENT, ["send 1 to PERMANENT_MAC"]),
    (permanent, E.UNCONFIGURED, S.NONE, [WITHDRAW]),
]
BEGINNINGS: dict[Callable[[Driver], None], State] = {
    none: S.NONE,
    none_without_address: S.NONE,
    incomplete: S.INCOMPLETE,
    incomplete_after_three_requests: S.INCOMPLETE,
    reachable: S.REACHABLE,
    stale: S.STALE,
    delay: S.DELAY,
    probe: S.PROBE,
    probe_after_three_requests: S.PROBE,
    failed: S.FAILED,
    failed_to_resolve: S.FAILED,
    permanent: S.PERMANENT,
}
MACS = {MAC: "MAC", NEW_MAC: "NEW_MAC", PERMANENT_MAC: "PERMANENT_MAC"}


def summary(actions: list[Action]) -> list[str]:
    """What actions do about the neighbour, in words. Others' entries and announcements are left out."""
    words = []
    for action in actions:
        match action:
            case SendArp(_, destination, message) if message.operation == REQUEST and message.target_ip == NEIGHBOUR:
                assert destination in (b"\xff" * 6, MAC)
                words.append(TO_IT if destination == MAC else TO_ALL)
            case Transmit(_, destination, source, frames, waited):
                assert source == OWN_MAC
                words.append(f"send {'waiting ' if waited else ''}{len(frames)} to {MACS[destination]}")
            case Return(frames, waited):
                words.append(f"return {'waiting ' if waited else ''}{len(frames)}")
            case Publish(_, address, mac) if address == NEIGHBOUR:
                words.append(f"publish {MACS[mac]}")
            case Withdraw(_, address) if address == NEIGHBOUR:
                words.append(WITHDRAW)
            case Count(counter, _, amount) if counter is Counter.WAITING and amount > 0:
                words.append("wait")
            case Count(counter, _, 1) if counter.name.startswith("DROP_"):
                words.append(counter.name)
    return words


@pytest.mark.parametrize(
    ("begin", "event", "after", "expected"), ROWS, ids=[f"{row[0].__name__}-{row[1].name}" for row in ROWS]
)
def test_each_row(begin: Callable[[Driver], None], event: Event, after: State, expected: list[str]) -> None:
    driver = Driver()
    begin(driver)
    assert driver.state is BEGINNINGS[begin]
    actions = STIMULI[event](driver)
    assert driver.state is after
    if event is Event.EVICTED:
        # what happens to the third next hop itself is not this neighbour's row
        actions = [each for each in actions if not (isinstance(each, Count) and each.counter is Counter.WAITING)]
    assert summary(actions) == expected


def test_every_row_of_the_table_has_a_case() -> None:
    tested = {(BEGINNINGS[begin], event) for begin, event, _, _ in ROWS}
    declared = {(state, event) for state, rows in TRANSITIONS.items() for event in rows}
    # CONFIGURED again, with another MAC: test_arp_neighbours
    assert declared - tested == {(S.PERMANENT, E.CONFIGURED)}
    assert tested <= declared


SILENT_STIMULI = (
    *(E.USED, E.REPLY, E.HINT, E.REPLY_OTHER_MAC, E.HINT_OTHER_MAC),
    *(E.LINK_DOWN, E.EVICTED, E.REMOVED, E.EXAMINED),
)


@pytest.mark.parametrize("event", SILENT_STIMULI)
@pytest.mark.parametrize("begin", [none, incomplete, reachable, stale, delay, probe, failed, permanent])
def test_what_has_no_row_changes_nothing(begin: Callable[[Driver], None], event: Event) -> None:
    if event in TRANSITIONS[BEGINNINGS[begin]]:
        return
    if begin in (incomplete, failed) and event in (E.REPLY_OTHER_MAC, E.HINT_OTHER_MAC):
        return  # without a MAC no other one is another
    driver = Driver()
    begin(driver)
    actions = STIMULI[event](driver)
    assert driver.state is BEGINNINGS[begin]
    if event is not E.EVICTED:
        assert summary(actions) == []


def test_who_failed_a_moment_ago_or_cannot_be_asked_is_not_asked_for_because_it_would_be_used() -> None:
    driver = Driver()
    failed_to_resolve(driver)
    assert driver.used() == []
    driver.configure(addresses=())
    driver.now += 3.0
    assert driver.used() == []
    driver.configure()
    assert summary(driver.used()) == [TO_ALL]


@pytest.mark.parametrize(
    ("begin", "seconds"),
    [(incomplete, 1.0), (reachable, 30.0), (stale, 60.0), (delay, 5.0), (probe, 1.0), (failed, 3.0)],
)
def test_the_time_in_each_state(begin: Callable[[Driver], None], seconds: float) -> None:
    driver = Driver()
    begin(driver)
    assert driver.resolver.next_deadline() == driver.now + seconds


@pytest.mark.parametrize(
    ("begin", "stimulus"),
    [(incomplete, E.DATAGRAM), (reachable, E.DATAGRAM), (reachable, E.USED), (reachable, E.HINT), (delay, E.DATAGRAM)],
)
def test_what_must_not_prolong_a_state(begin: Callable[[Driver], None], stimulus: Event) -> None:
    driver = Driver()
    begin(driver)
    deadline = driver.resolver.next_deadline()
    driver.now += 0.5
    STIMULI[stimulus](driver)
    assert driver.resolver.next_deadline() == deadline


@pytest.mark.parametrize(
    ("begin", "stimulus", "seconds"),
    [
        (reachable, E.REPLY, 30.0),
        (reachable, E.REPLY_OTHER_MAC, 30.0),
        (stale, E.HINT, 60.0),
        (stale, E.HINT_OTHER_MAC, 60.0),
    ],
)
def test_what_prolongs_a_state(begin: Callable[[Driver], None], stimulus: Event, seconds: float) -> None:
    driver = Driver()
    begin(driver)
    driver.now += 0.5
    STIMULI[stimulus](driver)
    assert driver.resolver.next_deadline() == driver.now + seconds


@pytest.mark.parametrize(("random", "seconds"), [(0.0, 15.0), (0.25, 22.5), (1.0, 45.0)])
def test_reachable_lasts_half_to_one_and_a_half_of_the_base_time(random: float, seconds: float) -> None:
    driver = Driver(resolver=Resolver(lambda: random))
    reachable(driver)
    assert driver.resolver.next_deadline() == driver.now + seconds


def test_removing_one_neighbour() -> None:
    driver = Driver()
    reachable(driver)
    assert driver.resolver.on_remove((ETH0, OTHER), driver.now) is None
    assert driver.resolver.on_remove((ETH0, NEIGHBOUR), driver.now) == [Withdraw(ETH0, NEIGHBOUR)]
    assert driver.resolver.on_remove((ETH0, NEIGHBOUR), driver.now) is None
    permanent(driver)
    assert driver.resolver.on_remove((ETH0, NEIGHBOUR), driver.now) is None


def test_flushing_one_interface_leaves_the_others() -> None:
    driver = Driver()
    reachable(driver)
    assert driver.resolver.on_flush(ETH0 + 1, driver.now) == []
    assert driver.resolver.on_flush(None, driver.now) == [Withdraw(ETH0, NEIGHBOUR)]


def test_nobody_is_asked_without_an_address_or_interface() -> None:
    driver = Driver()
    assert driver.resolver.on_examine((ETH0 + 1, NEIGHBOUR), driver.now) is None
    none_without_address(driver)
    assert driver.resolver.on_examine((ETH0, NEIGHBOUR), driver.now) is None
    driver.configure(up=False)
    assert driver.resolver.on_examine((ETH0, NEIGHBOUR), driver.now) is None
