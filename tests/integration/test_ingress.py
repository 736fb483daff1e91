"""What the ingress process does with frames: into the ring, to arp, into messages; and what it counts."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from ingress_rig import (
    GSO,
    GSO_VIRTIO,
    HOST_MAC,
    LIMIT_S,
    PARTIAL,
    PARTIAL_VIRTIO,
    PLAIN,
    ROUTER_MAC,
    ROUTER_NS,
    Router,
    Sender,
    frame,
    pair,
    sending,
    short_run_dir,
    started,
    take,
    wait_for,
    wait_for_frames,
)

from services.common.frame_ring import SLOTS, RingConsumer
from services.common.messages import FrameBatch, decode, decode_frames
from services.common.waiting import is_readable

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

BROADCAST: Final = b"\xff" * 6
ARP: Final = bytes.fromhex("0001 0800 06 04 0001 02000000000a c0a80701 000000000000 c0a80702")


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> Iterator[None]:
    with pair():
        yield


@pytest.fixture(scope="module")
def run_dir() -> Iterator[Path]:
    with short_run_dir() as path:
        yield path


@pytest.fixture(scope="module")
def host() -> Iterator[Sender]:
    with sending() as sender:
        yield sender


@pytest.fixture(scope="module")
def running(run_dir: Path) -> Iterator[Router]:
    with started(run_dir) as router:
        yield router


@pytest.fixture
def router(running: Router) -> Router:
    """The one router of these tests, which counts from now on."""
    running.count_from_now()
    return running


@pytest.fixture
def ring(router: Router) -> RingConsumer:
    """Its ring, empty."""
    ring = router.ring()
    ring.skip_all()
    return ring


# --- frames into the ring ---------------------------------------------------------------------------------------------


def test_frames_arrive_whole_with_type_header_and_time(router: Router, ring: RingConsumer, host: Sender) -> None:
    sent: list[tuple[bytes, bytes, int]] = [
        (PLAIN, frame(bytes(range(46))), 0),
        (PLAIN, frame(b"\x45" + bytes(1499)), 0),
        (PLAIN, frame(b"to all", BROADCAST), 1),
        (PLAIN, frame(b"to a group", bytes.fromhex("01005e000005")), 2),
        (PLAIN, frame(b"to another", bytes.fromhex("02000000000c")), 3),
        (PLAIN, frame(b"not IPv4", ethertype=0x88CC), 0),
        (PARTIAL_VIRTIO, PARTIAL, 0),
        (GSO_VIRTIO, GSO, 0),
    ]
    assert ring.interface_index == router.index
    before_ns = time.time_ns()
    for virtio, data, _ in sent:
        host.send(data, virtio)
    entries = take(ring, len(sent))
    assert [entry[:3] for entry in entries] == sent
    assert all(before_ns <= seen_ns <= time.time_ns() for *_, seen_ns in entries)
    assert router.counted() | {"BELLS": 0} == {
        "RX_FRAMES": len(sent),
        "RX_BYTES": sum(len(data) for _, data, _ in sent),
        "HANDED": len(sent),
        "BELLS": 0,
    }
    wait_for("the same counters at control", lambda: router.reported() == router.totals())


def test_tags(router: Router, ring: RingConsumer, host: Sender) -> None:
    host.send(ROUTER_MAC + HOST_MAC + bytes.fromhex("8100 0064 0800") + b"VLAN 100")
    host.send(ROUTER_MAC + HOST_MAC + bytes.fromhex("8100 e000 0800") + b"priority 7, no VLAN")
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"priority 7, no VLAN")]
    assert router.counted()["DROP_VLAN"] == 1


def test_what_the_router_sends_itself_is_not_received(router: Router, ring: RingConsumer, host: Sender) -> None:
    itself = Sender(ROUTER_NS, "e0")
    itself.send(frame(b"outgoing", HOST_MAC))
    itself.close()
    host.send(frame(b"incoming"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"incoming")]
    assert router.counted()["RX_FRAMES"] == 1


def test_many_frames_in_order(router: Router, ring: RingConsumer, host: Sender) -> None:
    """More than the ring has slots."""
    for number in range(3 * SLOTS):
        host.send(frame(number.to_bytes(4, "big") + bytes(42)))
        if number % 256 == 255:
            payloads = [data[14:18] for _, data, _, _ in take(ring, 256)]
            assert payloads == [one.to_bytes(4, "big") for one in range(number - 255, number + 1)]
    assert router.counted()["HANDED"] == router.counted()["RX_FRAMES"] == 3 * SLOTS


def test_what_a_forwarder_that_is_away_misses_is_counted(router: Router, ring: RingConsumer, host: Sender) -> None:
    for number in range(SLOTS + 500):
        host.send(frame(number.to_bytes(4, "big")))
        if number % 512 == 511:  # so that the receive ring does not overrun
            wait_for_frames(router, number + 1)
    wait_for("the rest is dropped", lambda: router.counted().get("DROP_FORWARDER_FULL") == 500)
    wait_for_frames(router, SLOTS + 500)
    assert router.counted()["HANDED"] == SLOTS
    assert [data[14:18] for _, data, _, _ in take(ring, SLOTS)] == [one.to_bytes(4, "big") for one in range(SLOTS)]
    host.send(frame(b"after"))
    assert [data for _, data, _, _ in take(ring, 1)] == [frame(b"after")]


def test_the_bell_rings_once_for_a_sleeping_consumer(router: Router, ring: RingConsumer, host: Sender) -> None:
    def ring_once(text: bytes) -> None:
        ring.give_back(ring.available())
        assert ring.go_to_sleep()
        host.send(frame(text))
        assert is_readable(router.bell, LIMIT_S)
        assert os.read(router.bell.fileno(), 10) == b"\0"
        take(ring, 1)

    wait_for("the first frames are in", lambda: ring.available() or host.send(frame(b"first")))
    router.bell.drain()
    rung = router.counted().get("BELLS", 0)
    ring_once(b"wake up")
    for _ in range(20):
        host.send(frame(b"awake"))
    take(ring, 20)
    ring_once(b"wake up again")
    wait_for("the bells are counted", lambda: router.counted().get("BELLS", 0) >= rung + 2)
    assert not router.bell.drain()


# --- ARP, messages ----------------------------------------------------------------------------------------------------


def test_arp_frames_go_to_arp(router: Router, ring: RingConsumer, host: Sender) -> None:
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        host.send(frame(ARP + bytes(18), BROADCAST, 0x0806))
        sent += 1
        return bool(router.arp.poll(50))

    wait_for("an ARP frame", arrives)
    header, *parts = router.arp.recv_multipart()
    batch = decode(header)
    assert batch == FrameBatch(purpose="arp", count=batch.count, handed=batch.handed)
    for one in decode_frames(batch, parts):
        assert one[:5] == (router.index, 0, 0, 1, False)
        assert one.data == PLAIN + frame(ARP + bytes(18), BROADCAST, 0x0806)

    def all_are_counted() -> bool:
        counted = router.counted()
        return counted.get("HANDED", 0) + counted.get("DROP_ARP_FULL", 0) == sent

    wait_for("all are counted", all_are_counted)
    assert router.counted()["HANDED"] >= 1
    assert router.counted()["RX_FRAMES"] == sent
    assert ring.available() == 0
