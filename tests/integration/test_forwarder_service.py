"""The forwarder process: frames in by ring and by message, out by real interfaces; questions; changing interfaces."""

import os
import signal
import struct
import time

import pytest
import zmq
from forwarder_links import (
    FAR,
    HOST0,
    HOST1,
    PLAIN,
    SILENT,
    Host,
    aged,
    checksum,
    datagram,
    kernel_interface,
    make_veth,
    numbers,
    set_link,
)
from forwarder_process import HOST_MAC, Ring, Router, works
from pyroute2 import IPRoute

from services.common.bus import RpcRefusedError, bound
from services.common.counters import Counter
from services.common.messages import (
    Frame,
    RouterState,
    encode_frames,
)
from services.common.runtime import clock
from services.forwarder.handing import BURST_FRAMES, FRAME_COST_S
from services.forwarder.share import BUSY_SHARE, IDLE_SHARE

pytest_plugins = ["forwarder_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


# --- Forwarding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["shared-memory", "inline"])
def test_frames_of_a_real_ingress_reach_the_other_side_whole_and_in_order(router: Router, transport: str) -> None:
    router.start_ingress("--transport", transport)
    packets = [datagram(number, length=60 + number) for number in range(300)]

    def first_has_come() -> bool:
        router.hosts[0].send(router.frame(datagram(0xFFFF)))  # until ingress listens
        return bool(router.hosts[1].heard)

    router.wait(first_has_come)
    for number, packet in enumerate(packets):
        router.hosts[0].send(router.frame(packet) + bytes(7))  # padding, which must not leave
        if number % 50 == 49:
            router.wait(lambda: numbers(router.hosts[1].datagrams())[-1] == number)  # noqa: B023 - called at once
    frames = [frame for frame in router.hosts[1].heard if frame[28:30] != b"\xff\xff"]
    assert frames == [PLAIN + HOST_MAC + router.mac(1) + b"\x08\x00" + aged(packet) for packet in packets]
    router.wait(lambda: router.count(Counter.FORWARDED) == len(router.hosts[1].heard))
    assert router.count(Counter.TX_BYTES) == sum(len(frame) - 10 for frame in router.hosts[1].heard)
    assert router.stop("ingress", signal.SIGTERM) == 0


def test_a_super_frame_passes_whole_with_its_virtio_header(router: Router, ring: Ring) -> None:
    # struct virtio_net_hdr: NEEDS_CSUM, GSO TCPv4, header 54 bytes, segments of 1448, checksum from 34 at 16
    virtio = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    tcp = bytes.fromhex("1234 5678 00000000 00000000 5010 ffff 0000 0000")
    head = struct.pack("!BBHHHBBHII", 0x45, 0, 3000, 7, 0x4000, 64, 6, 0, HOST0, HOST1)
    packet = head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp + bytes(range(256)) * 11 + bytes(144)
    ring.put(router.frame(packet), virtio=virtio)
    router.wait(router.hosts[1].datagrams)
    (frame,) = router.hosts[1].heard
    assert frame[:2] == virtio[:2]
    assert frame[4:6] == virtio[4:6]  # the kernel may have its own opinion of the header's length
    assert frame[6:10] == virtio[6:10]
    assert frame[24:] == aged(packet)


def test_many_batches_in_a_hand_written_ring_keep_their_order(router: Router, ring: Ring) -> None:
    for first in range(0, 2000, 200):
        ring.put(*(router.frame(datagram(number)) for number in range(first, first + 200)))
        router.wait(ring.is_worked_off)
    router.wait(lambda: len(router.hosts[1].heard) == 2000)
    assert numbers(router.hosts[1].datagrams()) == list(range(2000))


def test_an_inline_message_larger_than_a_batch(router: Router) -> None:
    packets = [datagram(number) for number in range(1000)]
    frames = [Frame(router.index(0), 0, 0, 0, False, PLAIN + router.frame(packet)) for packet in packets]
    router.hand(encode_frames("ip", frames))
    router.wait(lambda: len(router.hosts[1].heard) == 1000)
    assert router.hosts[1].datagrams() == [aged(packet) for packet in packets]


def test_frames_to_unknown_neighbours_go_to_arp_and_later_ones_directly(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    packet = datagram(1, SILENT)
    ring.put(router.frame(packet), router.frame(datagram(2, FAR)))
    router.wait(lambda: router.unresolved and router.hosts[1].heard)
    (frame,) = router.unresolved
    assert frame[:5] == (router.index(0), router.index(1), SILENT, 0, False)
    # all but the 12 bytes of MAC addresses is final
    assert bytes(frame.data)[:10] == PLAIN
    assert bytes(frame.data)[22:] == b"\x08\x00" + aged(packet)

    router.learn(1, SILENT)
    router.wait(lambda: router.rpc.call("route.get", {"dst": SILENT})["mac"] == HOST_MAC)
    ring.put(router.frame(datagram(3, SILENT)))
    router.wait(lambda: len(router.hosts[1].heard) == 2)
    assert numbers(router.hosts[1].datagrams()) == [2, 3]
    router.wait(lambda: router.used == {(router.index(1), HOST1), (router.index(1), SILENT)})
    assert router.count(Counter.HANDED) == 1


def test_more_unresolved_frames_than_a_message_holds(router: Router, ring: Ring) -> None:
    """A datagram of 65,000 bytes to an MTU of 68 is 1,354 fragments, more than 1,024."""
    ring.put(router.frame(datagram(1, 0xC6120001, length=65_000)))
    router.wait(lambda: len(router.unresolved) == 1354)
    assert router.batches == [1024, 330]
    assert {frame.generated for frame in router.unresolved} == {True}
    assert router.count(Counter.HANDED) == router.count(Counter.GENERATED) == 1354
    works(router, ring)


def test_fragments_count_for_what_the_slow_path_takes_from_one_batch(router: Router, ring: Ring) -> None:
    """A datagram of 4,000 bytes is 83 fragments there, and not one frame's work."""
    ring.put(*(router.frame(datagram(number, 0xC6120001, length=4000)) for number in range(16)))
    router.wait(lambda: router.count(Counter.FRAGMENTED) + router.count(Counter.DROP_SLOW_PATH_FULL) == 16)
    assert router.count(Counter.FRAGMENTED) == 6
    router.wait(lambda: len(router.unresolved) == 6 * 83)
    works(router, ring)


def test_what_arp_could_not_deliver_is_told_to_its_sender(router: Router) -> None:
    packet = aged(datagram(5, SILENT))
    data = PLAIN + bytes(12) + b"\x08\x00" + packet
    router.hand(encode_frames("unreachable", [Frame(router.index(0), router.index(1), SILENT, 0, False, data)]))
    router.wait(router.hosts[0].heard.__len__)
    (frame,) = router.hosts[0].heard
    assert frame[:24] == PLAIN + HOST_MAC + router.mac(0) + b"\x08\x00"
    error = frame[24:]
    assert error[:10] == bytes.fromhex("45c0 0080 0000 0000 4001")
    assert error[12:20] == bytes.fromhex("0a000001 0a000002")
    assert error[20:22] == b"\x03\x01"
    assert error[24:] == bytes(4) + packet
    assert checksum(error[20:]) == checksum(error[:20]) == 0
    assert router.count(Counter.DROP_HOST_UNREACHABLE) == 1


def test_a_thousand_frames_that_arp_could_not_deliver_are_all_counted(router: Router, ring: Ring) -> None:
    """From as many senders; a burst of errors is 50 (services.common.parameters)."""
    data = [
        PLAIN + bytes(12) + b"\x08\x00" + aged(datagram(number, SILENT, source=0x0A000003 + number % 250))
        for number in range(1000)
    ]
    router.hand(encode_frames("unreachable", [Frame(router.index(0), 1, SILENT, 0, False, each) for each in data]))
    router.wait(lambda: router.count(Counter.DROP_HOST_UNREACHABLE) == 1000)
    works(router, ring)
    counted = router.counted()
    assert 50 <= counted["ICMP_ERRORS"] <= 64
    assert counted["ICMP_ERRORS"] + counted["ICMP_SUPPRESSED"] == counted["TAKEN"] - 1 == 1000


def test_a_whole_batch_of_unresolved_frames_goes_to_arp(router: Router, ring: Ring) -> None:
    def goes_whole() -> bool:
        """Not before the time that earlier tests have used up is there again, as after a quiet while."""
        time.sleep(BURST_FRAMES * FRAME_COST_S / IDLE_SHARE)
        router.unresolved.clear()
        dropped = router.count(Counter.DROP_ARP_FULL)
        ring.put(*(router.frame(datagram(number, SILENT)) for number in range(256)))
        router.wait(lambda: len(router.unresolved) + router.count(Counter.DROP_ARP_FULL) - dropped == 256)
        return router.count(Counter.DROP_ARP_FULL) == dropped

    router.wait(goes_whole)
    assert numbers([bytes(frame.data)[24:] for frame in router.unresolved]) == list(range(256))


def test_more_unresolved_frames_than_arp_is_given_are_counted(router: Router, ring: Ring) -> None:
    """The forwarder hands over 1,024 at once, and as many a second as it has time for."""
    started = clock()
    for first in range(0, 20_000, 200):
        ring.put(*(router.frame(datagram(number, SILENT)) for number in range(first, first + 200)))
        router.wait(ring.is_worked_off)
        if router.count(Counter.DROP_ARP_FULL):
            break
    counted = router.counted()
    assert counted["DROP_ARP_FULL"] + counted["HANDED"] == counted["TAKEN"]
    assert 0 < counted["HANDED"] <= BURST_FRAMES + (clock() - started) * (BUSY_SHARE + IDLE_SHARE) / FRAME_COST_S + 1


def test_frames_for_arp_while_it_is_away_are_counted(idle: Router) -> None:
    router = idle
    router.to_arp.close()
    router.to_arp = bound(router.context, zmq.PULL, "inproc://nobody")
    router.start_forwarder()
    ring = Ring(router, "r0", router.index(0))
    ring.put(*(router.frame(datagram(number, SILENT)) for number in range(10)))
    router.wait(lambda: router.count(Counter.DROP_ARP_FULL) == 10)
    router.to_arp.close()
    router.to_arp = bound(router.context, zmq.PULL, router.endpoints.arp_frames)

    def arrives() -> bool:
        if ring.is_worked_off():
            ring.put(router.frame(datagram(99, SILENT)))  # until the forwarder has found it again
        return bool(router.unresolved)

    router.wait(arrives)
    router.wait(ring.is_worked_off)


def test_traceroute_and_ping_to_the_router(router: Router, ring: Ring) -> None:
    ping = datagram(9, 0x0A000101, length=28)
    ping = ping[:9] + b"\x01" + ping[10:20] + bytes.fromhex("0800 f7ff 0000 0000")
    ping = ping[:10] + b"\0\0" + ping[12:]
    ping = ping[:10] + struct.pack("!H", checksum(ping[:20])) + ping[12:]
    ring.put(router.frame(datagram(1, FAR, ttl=1)), router.frame(ping))
    router.wait(lambda: len(router.hosts[0].heard) == 2)
    exceeded, reply = router.hosts[0].datagrams()
    assert exceeded[20:22] == b"\x0b\x00"
    assert exceeded[28:] == datagram(1, FAR, ttl=1)
    assert reply[12:] == bytes.fromhex("0a000101 0a000002 0000 ffff 00000000")


def test_more_exceptions_than_the_slow_path_takes_from_one_batch_are_counted(router: Router, ring: Ring) -> None:
    ring.put(*(router.frame(datagram(number, FAR, ttl=2 if number < 6 else 1)) for number in range(256)))
    router.wait(lambda: router.count(Counter.DROP_TTL_EXCEEDED) + router.count(Counter.DROP_SLOW_PATH_FULL) == 250)
    router.wait(lambda: len(router.hosts[1].heard) == 6)
    # 6 errors at 38 µs, as it estimates, and then decisions at 30 until 4,000 are reached, if there is time for so many
    assert 0 < router.count(Counter.DROP_TTL_EXCEEDED) <= 6 + 126


# --- Questions and reports --------------------------------------------------------------------------------------------


def test_route_get(router: Router) -> None:
    assert router.rpc.call("route.get", {"dst": FAR}) == {
        "prefix": 0xC6336400,
        "prefix_length": 24,
        "kind": "unicast",
        "next_hops": [{"interface": router.index(1), "gateway": HOST1, "weight": 1, "silent": False}],
        "chosen": {"interface": router.index(1), "next_hop": HOST1},
        "mac": HOST_MAC,
        "mtu": 1500,
    }
    router.wait(lambda: True)
    assert router.rpc.call("route.get", {"dst": 0x08080808})["kind"] == "none"
    assert router.rpc.call("route.get", {"dst": 0x0A000001})["kind"] == "local"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("route.get", {}, "usage"),
        ("route.get", {"dst": "10.0.0.1"}, "usage"),
        ("route.get", {"dst": -1}, "usage"),
        ("route.get", {"dst": 2**32}, "usage"),
        ("route.get", {"dst": None}, "usage"),
        ("route.add", {"dst": 1}, "unknown-method"),
    ],
)
def test_questions_that_make_no_sense(router: Router, method: str, params: dict[str, object], code: str) -> None:
    with pytest.raises(RpcRefusedError) as refused:
        router.rpc.call(method, params)
    assert refused.value.error.code == code


def test_it_is_not_ready_before_control_has_spoken(idle: Router) -> None:
    router = idle
    router.control_answers = False
    router.start("forwarder")
    router.wait(lambda: router.report is not None)
    assert router.report is not None
    assert (router.report.ready, router.report.interfaces) == (False, [])
    frame = Frame(router.index(0), 0, 0, 0, False, PLAIN + router.frame(datagram(1)))
    router.hand(encode_frames("ip", [frame]))
    router.wait(lambda: router.count(Counter.DROP_UNKNOWN_INTERFACE) == 1)
    router.control_answers = True
    router.wait(router.is_ready)
    router.hand(encode_frames("ip", [frame]))
    router.wait(router.hosts[1].datagrams)


def test_interfaces_are_reported_without_any_ring(router: Router) -> None:
    """With an inline ingress there is none, and the router must become ready all the same."""
    assert list(router.endpoints.rings.glob("*")) == []
    assert router.is_ready()


# --- Interfaces come and go -------------------------------------------------------------------------------------------


def test_an_interface_that_goes_down_loses_its_frames_and_forwards_again_when_it_is_up(
    fresh: Router, fresh_ring: Ring
) -> None:
    router, ring = fresh, fresh_ring
    set_link(router.spaces.router, "r1", state="down")
    ring.put(router.frame(datagram(1)))
    router.wait(lambda: router.count(Counter.DROP_TX_FAILED) == 1)
    set_link(router.spaces.router, "r1", state="up")

    def comes_through() -> bool:
        if ring.is_worked_off():
            ring.put(router.frame(datagram(2)))  # until the link has its carrier back
        return bool(router.hosts[1].heard)

    router.wait(comes_through)
    router.wait(ring.is_worked_off)


def test_an_interface_that_control_says_is_down_is_unreachable(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    down = router.interfaces[1].model_copy(update={"up": False})
    router.publish(RouterState(interfaces=[down]))
    router.wait(router.is_ready)
    ring.put(router.frame(datagram(1)))
    router.wait(router.hosts[0].datagrams)
    assert router.hosts[0].datagrams()[0][20:22] == b"\x03\x01"
    assert router.count(Counter.DROP_UNREACHABLE) == 1


def test_an_interface_vanishes_and_comes_back_under_another_index(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    gone = router.interfaces.pop()
    with IPRoute(netns=router.spaces.router, flags=0) as kernel:
        kernel.link("del", index=gone.index)
    ring.put(router.frame(datagram(1)))  # nobody has told it yet
    router.wait(lambda: router.count(Counter.DROP_TX_FAILED) == 1)
    router.publish(RouterState(interfaces_gone=[gone.index]))
    router.wait(router.is_ready)
    ring.put(router.frame(datagram(2)))  # its route is still there
    router.wait(lambda: router.count(Counter.DROP_UNREACHABLE) == 1)

    router.hosts.pop().close()
    make_veth(router.spaces, 1)
    router.hosts.append(Host(router.spaces.host, "h1"))
    router.interfaces.append(kernel_interface(router.spaces.router, "r1", 0x0A000101))
    assert router.index(1) != gone.index
    router.publish(router.router_state().model_copy(update={"full": False}))
    router.learn(1, HOST1)
    router.wait(router.is_ready)
    router.wait(lambda: router.rpc.call("route.get", {"dst": HOST1})["mac"] == HOST_MAC)
    works(router, ring)


def test_a_route_that_changes_under_way_is_followed(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    ring.put(router.frame(datagram(1, FAR)))
    router.wait(router.hosts[1].datagrams)
    router.publish(RouterState(routes=struct.pack("=IBI", 0xC6336400, 24, 0), paths_gone=[5]))
    router.wait(router.is_ready)
    ring.put(router.frame(datagram(2, FAR)))
    router.wait(router.hosts[0].datagrams)
    assert router.hosts[0].datagrams()[0][20:22] == b"\x03\x00"
