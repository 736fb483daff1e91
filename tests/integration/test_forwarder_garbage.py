"""The forwarder process and what must not come in, or comes to an end: garbage on every way in, kills, restarts."""

import os
import signal
import struct
import subprocess
import sys
import time

import pytest
import zmq
from forwarder_links import FAR, LIMIT_S, PLAIN, datagram, numbers
from forwarder_process import SMALL, Ring, Router, works

from services.common import netns
from services.common.bus import connected
from services.common.counters import Counter
from services.common.messages import (
    Frame,
    NeighboursUsed,
    RouterState,
    RpcRequest,
    encode,
    encode_frames,
)

pytest_plugins = ["forwarder_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


# --- What must not come in --------------------------------------------------------------------------------------------


def test_malformed_messages_are_counted_and_survived(router: Router, ring: Ring) -> None:
    good = [Frame(router.index(0), 0, 0, 0, False, PLAIN + router.frame(datagram(1)))]
    header, descriptors, data = encode_frames("ip", good)
    unreachable = encode_frames("unreachable", good)
    two = encode_frames("ip", [good[0], good[0]._replace(in_interface=router.index(1))])
    bad = [
        [b""],
        [b"\x01"],
        [b"\x02" + header[1:]],
        [b"\x01\xc1"],
        [b"\xff" * 100],
        [b"\x01\xdf\xff\xff\xff\xff"],
        [header],
        [header, descriptors],
        [header, descriptors, data, data],
        [header, descriptors, data[:-1]],
        [header, descriptors, data + b"\0"],
        [header, descriptors[:-4] + struct.pack("=I", 9), data[:9]],
        [header, descriptors[:-4] + b"\xff\xff\xff\xff", data],
        [header, b"\xff\xff\xff\xff" + descriptors[4:], data],
        [header, bytes(4) + descriptors[4:], data],
        two,
        [unreachable[0], descriptors, data[:-1]],
        encode_frames("arp", good),
        encode_frames("unresolved", good),
        [encode(NeighboursUsed(neighbours=[]))],
        [encode(RouterState())],
    ]
    for parts in bad:
        router.hand(parts)
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == len(bad))
    assert set(router.counted()) <= {"BAD_MESSAGES", "BATCHES"}
    works(router, ring)
    assert router.count(Counter.BAD_MESSAGES) == len(bad)


def test_a_bell_for_nothing_changes_nothing(router: Router, ring: Ring) -> None:
    for _ in range(1000):
        router.bell.ring()
    works(router, ring)
    assert set(router.counted()) <= {"FORWARDED", "TX_BYTES", "TAKEN", "BATCHES"}


def test_garbage_from_control_arp_and_askers_is_counted(router: Router, ring: Ring) -> None:
    asker = connected(router.context, zmq.DEALER, router.endpoints.forwarder_rpc, queue_for_absent=True)
    for message in (b"", b"what?", encode(RouterState())):
        asker.send(message)
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == 3)
    asker.send(encode(RpcRequest(id=1, method="route.get", params={"dst": FAR})))
    router.wait(lambda: asker.poll(0))
    asker.close()
    router.control._changes.send(b"garbage")  # what nobody else can make it send
    router.arp._changes.send(b"\x01garbage")
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == 5)
    works(router, ring)


@pytest.mark.parametrize(
    "state",
    [
        {"routes": b"12345678"},
        {"routes": struct.pack("=IBI", 0x0A000001, 8, SMALL)},
        {"routes": struct.pack("=IBI", 0x0A000000, 8, 9_999_999)},
        {"routes": struct.pack("=IBI", 0x0A000000, 8, 63)},
    ],
)
def test_a_state_that_contradicts_itself_is_counted_and_changes_nothing(
    router: Router, ring: Ring, state: dict[str, bytes]
) -> None:
    router.publish(RouterState(interfaces_gone=[router.index(1)], routes=state["routes"]))
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == 1)
    works(router, ring)
    assert router.rpc.call("route.get", {"dst": FAR})["kind"] == "unicast"


def ring_file(
    magic: int = 0x676E_6972_7770_6F68, version: int = 1, index: int = 1, slots: int = 64, area: int = 4096
) -> bytes:
    """A ring as its description says: a page of header words, the descriptors, the area."""
    words = struct.pack("=6q", magic, version, 1, index, slots, area)
    return words.ljust(4096, b"\0") + bytes(64 * 32 + 4096)


GARBAGE = {
    "empty": b"",
    "short": b"hopwring",
    "noise": bytes(range(256)) * 400,
    "magic": b"Hopwring" + ring_file()[8:],
    "version": ring_file(version=2),
    "no-slots": ring_file(slots=0),
    "negative-slots": ring_file(slots=-64),
    "many-slots": ring_file(slots=1 << 60),
    "small-area": ring_file(area=4095),
    "no-area": ring_file(area=0),
    "huge-area": ring_file(area=(1 << 63) - 1),
    "no-interface": ring_file(index=0),
    "negative-interface": ring_file(index=-5),
    "impossible-interface": ring_file(index=1 << 31),
    "cut": ring_file()[:-1],
}


def test_garbage_in_the_ring_folder_is_refused_once_each_and_survived(router: Router, ring: Ring) -> None:
    for name, data in GARBAGE.items():
        (router.endpoints.rings / f"{name}.ring").write_bytes(data)
    (router.endpoints.rings / "folder.ring").mkdir()
    os.mkfifo(router.endpoints.rings / "pipe.ring")
    (router.endpoints.rings / "link.ring").symlink_to("/nowhere/at/all")
    router.wait(lambda: router.count(Counter.BAD_RINGS) >= len(GARBAGE) + 2)
    for _ in range(3):  # three looks later it still is so
        router.report = None
        router.wait(lambda: router.report is not None)
    assert router.count(Counter.BAD_RINGS) == len(GARBAGE) + 2
    works(router, ring)


@pytest.mark.parametrize("head", [-1000, 258, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_a_ring_goes_on_from_a_position_out_of_bounds(router: Router, ring: Ring, head: int) -> None:
    works(router, ring)
    ring.set_head(head)
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == 1)
    router.wait(ring.is_worked_off)
    ring.set_head(1 << 20)  # and back to where positions can grow
    router.wait(lambda: router.count(Counter.BAD_MESSAGES) == 2)
    works(router, ring)
    assert router.count(Counter.TAKEN) == 2


def test_ring_entries_that_lie_are_counted(router: Router, ring: Ring) -> None:
    frame = router.frame(datagram(1))
    ring.put(*[frame] * 2)
    router.wait(ring.is_worked_off)
    lies = [(-1, 100, 0, 0), (0, 13, 0, 0), (0, 1 << 40, 0, 0), ((1 << 20) - 100, 114, 0, 0), (0, -1, -1, -1)]
    for number, entry in enumerate(lies):
        ring.producer.descriptors[ring.head + number] = entry
    ring.set_head(ring.head + len(lies))
    router.wait(lambda: router.count(Counter.DROP_RING_ENTRY) == len(lies))
    works(router, ring)


# --- Ends and beginnings ----------------------------------------------------------------------------------------------


def test_killed_and_started_again_it_forwards_the_fresh_and_counts_the_stale(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    ring.put(router.frame(datagram(1)))
    router.wait(router.hosts[1].datagrams)
    before = router.counted()
    assert router.stop("forwarder", signal.SIGKILL) == -signal.SIGKILL
    ring.put(*(router.frame(datagram(number)) for number in range(10, 30)), age_s=0.2)
    # as new as a frame can be that waits for a process to start
    ring.put(*(router.frame(datagram(number)) for number in range(30, 40)), age_s=-LIMIT_S)
    router.start_forwarder()
    router.wait(lambda: len(router.hosts[1].heard) == 11)
    assert numbers(router.hosts[1].datagrams()) == [1, *range(30, 40)]
    assert router.count(Counter.DROP_STALE) == 20
    assert router.count(Counter.TAKEN) == 31
    assert router.counted()["FORWARDED"] == before["FORWARDED"] + 10  # counts go on, they do not begin again
    works(router, ring)


def test_a_ring_that_its_ingress_makes_anew_is_found_and_the_old_one_worked_off(router: Router, ring: Ring) -> None:
    ring.put(router.frame(datagram(1)))
    router.wait(router.hosts[1].datagrams)
    ring.producer.descriptors[1] = ring.producer.descriptors[0]
    ring.producer.words[16] = 2  # handed over without a bell, as by an ingress that was killed before it rang
    fresh = Ring(router, "r0", router.index(0))
    fresh.put(router.frame(datagram(2)))
    router.wait(lambda: 2 in numbers(router.hosts[1].datagrams()))
    router.wait(lambda: router.count(Counter.TAKEN) == 3)
    fresh.path.unlink()
    router.wait(lambda: len(router.hosts[1].heard) >= 2)
    again = Ring(router, "r0", router.index(0))
    works(router, again)


def test_frames_without_a_bell_are_found_at_the_next_look(router: Router, ring: Ring) -> None:
    """A bell that is lost costs a quarter of a second, not the frames."""
    ring.put(router.frame(datagram(1)))
    router.wait(router.hosts[1].datagrams)
    ring.producer.descriptors[1] = ring.producer.descriptors[0]
    ring.producer.descriptors[1, 3] = time.time_ns()
    ring.head = 2
    ring.producer.words[16] = 2
    router.wait(ring.is_worked_off)


def test_it_stops_on_sigterm(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    works(router, ring)
    assert router.stop("forwarder", signal.SIGTERM) == 0


def test_a_second_one_on_the_same_run_directory_says_so_and_ends(router: Router, ring: Ring) -> None:
    with netns.inside(router.spaces.router):
        second = subprocess.run(
            [sys.executable, "-m", "services.forwarder", "--run-dir", str(router.endpoints.run_dir)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert second.returncode == 1
    (line,) = second.stderr.splitlines()
    assert "forwarder already runs" in line
    assert str(router.processes["forwarder"].pid) in line
    works(router, ring)
