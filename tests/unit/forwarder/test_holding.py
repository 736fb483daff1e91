"""When a neighbour may be used: frames that are still under way to arp must not be overtaken."""

import pytest

from services.common.messages import Frame, Neighbour, NeighbourState
from services.forwarder.holding import (
    ASK_INTERVAL_S,
    HOLD_LIMIT_S,
    MAX_HELD_BYTES,
    MAX_HELD_FRAMES,
    MAX_TRACKED,
    Holding,
)

ETH0 = 3
HOST, OTHER = 0x0A000002, 0x0A000003
MAC, NEW_MAC = bytes.fromhex("020000000002"), bytes.fromhex("0200000000ff")


def frame(number: int = 0, next_hop: int = HOST, length: int = 80) -> Frame:
    return Frame(9, ETH0, next_hop, 0, False, number.to_bytes(4, "big") + bytes(length - 4))


def known(*addresses: int, mac: bytes = MAC) -> list[Neighbour]:
    return [Neighbour(interface=ETH0, address=address, mac=mac) for address in addresses]


def told(*addresses: int, taken: int, mac: bytes = MAC, full: bool = False) -> NeighbourState:
    return NeighbourState(full=full, neighbours=known(*addresses, mac=mac), taken=taken)


@pytest.fixture
def holding() -> Holding:
    """Ten frames for HOST were handed to arp."""
    holding = Holding()
    holding.handed([frame(number) for number in range(10)], 10)
    return holding


def test_a_neighbour_whose_frames_are_all_taken_is_used_at_once(holding: Holding) -> None:
    release = holding.on_state(told(HOST, taken=10), 0.0)
    assert release.state == told(HOST, taken=10)
    assert not release.ask


def test_a_neighbour_that_no_frame_went_to_is_used_at_once(holding: Holding) -> None:
    release = holding.on_state(told(OTHER, taken=0), 0.0)
    assert release.state == told(OTHER, taken=0)
    assert not release.ask


def test_frames_are_held_until_arp_has_taken_those_before_them(holding: Holding) -> None:
    release = holding.on_state(told(HOST, taken=9), 0.0)
    assert (release.state, release.ask) == (told(taken=9), True)
    late = [frame(10), frame(11)]
    assert holding.sort(late) == ([], late, [])
    assert holding.waiting == 2
    release = holding.on_state(told(taken=10), 0.0)
    assert release.state == told(HOST, taken=10)
    assert (release.send, release.hand, release.ask) == (late, [], False)
    assert holding.waiting == 0


def test_the_latest_mac_is_used(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    assert holding.on_state(told(HOST, taken=0, mac=NEW_MAC), 0.0).state == told(taken=0)
    assert holding.on_state(told(taken=10), 0.0).state == told(HOST, taken=10, mac=NEW_MAC)
    assert holding.on_state(told(HOST, taken=10), 0.0).state == told(HOST, taken=10)


def test_a_change_of_a_neighbour_in_use_is_not_kept_back(holding: Holding) -> None:
    """Only where it was given free by time can frames for it be under way."""
    holding.on_state(told(HOST, taken=0), 0.0)
    holding.on_time(HOLD_LIMIT_S)
    assert holding.on_state(told(HOST, taken=0, mac=NEW_MAC), 2.0).state == told(HOST, taken=0, mac=NEW_MAC)


def test_frames_of_a_neighbour_that_is_gone_go_to_arp(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    holding.sort([frame(10)])
    release = holding.on_state(NeighbourState(gone=[(ETH0, HOST)]), 0.0)
    assert (release.send, release.hand, release.ask) == ([], [frame(10)], False)
    assert holding.sort([frame(11)]).hand == [frame(11)]


def test_a_snapshot_without_the_neighbour_says_that_it_is_gone(holding: Holding) -> None:
    """As the first one of an arp that was started anew."""
    holding.on_state(told(HOST, taken=0), 0.0)
    holding.sort([frame(10)])
    release = holding.on_state(told(OTHER, taken=0, full=True), 0.0)
    assert release.state is not None
    assert (release.state.full, release.state.neighbours) == (True, known(OTHER))
    assert release.hand == [frame(10)]


def test_arp_is_asked_again_and_a_neighbour_is_not_kept_back_for_ever(holding: Holding) -> None:
    assert holding.on_state(told(HOST, taken=0), 0.0).ask
    holding.sort([frame(10)])
    assert not holding.on_time(ASK_INTERVAL_S / 2).ask
    assert holding.on_time(ASK_INTERVAL_S).ask
    release = holding.on_time(HOLD_LIMIT_S)
    assert release.state == NeighbourState(neighbours=known(HOST))
    assert release.send == [frame(10)]
    assert not release.ask
    assert not holding.on_time(HOLD_LIMIT_S + ASK_INTERVAL_S).ask


def test_other_next_hops_are_not_held_up(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    assert holding.sort([frame(1, OTHER), frame(2)]) == ([frame(1, OTHER)], [frame(2)], [])


def test_held_frames_are_bounded_and_the_first_stay(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    frames = [frame(number) for number in range(MAX_HELD_FRAMES + 5)]
    result = holding.sort(frames)
    assert (result.held, result.dropped) == (frames[:-5], frames[-5:])
    assert holding.on_state(told(taken=10), 0.0).send == frames[:-5]


def test_held_bytes_are_bounded(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    large = [frame(number, length=2**16) for number in range(MAX_HELD_BYTES // 2**16 + 1)]
    assert len(holding.sort(large).dropped) == 1
    holding.on_state(told(taken=10), 0.0)
    holding.handed([frame(0, OTHER)], 11)
    holding.on_state(told(OTHER, taken=10), 0.0)
    assert holding.sort([frame(1, OTHER)]).held == [frame(1, OTHER)]


def test_what_is_remembered_is_bounded() -> None:
    """What was forgotten counts as handed over with the last that was forgotten."""
    holding = Holding()
    for number in range(MAX_TRACKED + 10):
        holding.handed([frame(0, number)], number + 1)
    assert holding.on_state(told(0xFF000000, taken=9), 0.0).ask
    assert holding.on_state(told(taken=10), 0.0).state == told(0xFF000000, taken=10)
    assert holding.on_state(told(11, 9, taken=11), 0.0).state == told(9, taken=11)


def test_all_is_given_up(holding: Holding) -> None:
    holding.on_state(told(HOST, taken=0), 0.0)
    holding.sort([frame(10), frame(11)])
    assert holding.take_all() == [frame(10), frame(11)]
    assert holding.waiting == 0
