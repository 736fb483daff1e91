"""The arp service as a process: what it sends on a real interface, and how it bears failure."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from arp_process import (
    BROADCAST,
    HOST,
    HOST_BYTES,
    HOST_MAC,
    LIMIT_S,
    NO_MAC,
    OWN_BYTES,
    PLAIN,
    REPOSITORY,
    ROUTER_NS,
    SILENT,
    SILENT_BYTES,
    Host,
    Router,
    arp_bytes,
    check_balance,
    datagram,
    make_veth,
    namespaces,
)
from pyroute2 import IPRoute

from services.common.bus import RpcRefusedError, RpcServer, connected
from services.common.counters import Counter
from services.common.endpoints import prepare_run_dir
from services.common.messages import (
    Frame,
    Handed,
    NeighboursUsed,
    RouterState,
    encode,
    encode_frames,
)
from services.common.parameters import InterfacePolicy, Parameters
from services.common.runtime import clock

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture
def router(tmp_path: Path) -> Iterator[Router]:
    with namespaces():
        router = Router(prepare_run_dir(tmp_path / "run"))
        try:
            router.start()
            yield router
            check_balance(router.counters())
        finally:
            router.close()


def test_it_answers_a_request_for_its_own_address(router: Router) -> None:
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: bool(router.heard_arp(2)))
    (frame,) = [frame for frame in router.heard if frame[10 + 14 + 7] == 2]
    assert frame[10:16] == HOST_MAC
    assert frame[16:22] == router.mac
    assert frame[22:24] == b"\x08\x06"
    assert frame[24:52] == arp_bytes(2, (router.mac, OWN_BYTES), (HOST_MAC, HOST_BYTES))
    assert frame[52:] == bytes(60 - 42)  # padded to 60 bytes
    router.wait(lambda: router.neighbours == {(router.index, HOST): HOST_MAC})
    assert router.counters()[Counter.ARP_REPLIES_SENT] == 1


def test_it_announces_its_address_twice(router: Router) -> None:
    expected = arp_bytes(1, (router.mac, OWN_BYTES), (NO_MAC, OWN_BYTES))
    router.wait(lambda: len(router.heard) >= 2)
    for frame in router.heard:
        assert frame[10:] == BROADCAST + router.mac + b"\x08\x06" + expected + bytes(18)


def test_frames_wait_for_the_answer_and_leave_in_order_with_their_virtio_headers(router: Router) -> None:
    # struct virtio_net_hdr: flags NEEDS_CSUM, no GSO, header 54 bytes, checksum from byte 34 at its byte 16 (TCP)
    unfinished = struct.pack("=BBHHHH", 1, 0, 0, 0, 34, 16)
    # flags NEEDS_CSUM, GSO TCPv4, header 54 bytes, segments of 1448 bytes
    super_frame = struct.pack("=BBHHHH", 1, 1, 54, 1448, 34, 16)
    head = b"\0" * 12 + b"\x08\x00"
    tcp = bytes.fromhex("45000fa8 00004000 4006 0000 c0a80301 c0a80102 1234 5678 00000000 00000000 5010 ffff 0000 0000")
    payloads = [datagram(1), tcp[:2] + b"\x00\x64" + tcp[4:] + bytes(60), tcp + bytes(4008 - 40)]
    headers = [PLAIN, unfinished, super_frame]
    router.hand_unresolved(HOST, *(header + head + data for header, data in zip(headers, payloads, strict=True)))
    router.wait(lambda: bool(router.heard_arp(1)))
    assert router.heard_arp(1) == [arp_bytes(1, (router.mac, OWN_BYTES), (NO_MAC, HOST_BYTES)) + bytes(18)]
    assert router.counters()[Counter.WAITING] == 3
    assert router.heard_ip() == []

    reply = arp_bytes(2, (HOST_MAC, HOST_BYTES), (router.mac, OWN_BYTES))
    router.hand_arp(router.mac + HOST_MAC + b"\x08\x06" + reply, packet_type=0)
    router.wait(lambda: router.neighbours == {(router.index, HOST): HOST_MAC} and len(router.heard_ip()) == 3)
    for frame, payload in zip(router.heard_ip(), payloads, strict=True):
        assert frame[10:] == HOST_MAC + router.mac + b"\x08\x00" + payload
    assert [frame[:2] for frame in router.heard_ip()] == [b"\0\0", b"\1\0", b"\1\1"]  # flags and GSO type
    assert router.heard_ip()[1][6:10] == unfinished[6:]
    assert router.heard_ip()[2][4:6] == (1448).to_bytes(2, sys.byteorder)
    assert router.counters()[Counter.FORWARDED] == 3
    (shown,) = router.rpc.call("neigh.show")
    assert shown | {"age_s": 0} == {
        "dst": HOST,
        "interface": router.index,
        "lladdr": HOST_MAC,
        "state": "REACHABLE",
        "age_s": 0,
        "waiting_frames": 0,
        "waiting_bytes": 0,
    }


def test_a_silent_next_hop_is_asked_three_times_and_its_frames_come_back(router: Router) -> None:
    router.publisher.publish(RouterState(parameters=Parameters()), clock())
    router.wait(lambda: router.report is not None and router.report.generation == router.publisher.sequence)
    first, second = (PLAIN + bytes(12) + b"\x08\x00" + datagram(number) for number in (1, 2))
    began = clock()
    router.hand_unresolved(SILENT, first, second)
    router.wait(lambda: len(router.returned) == 2)
    assert clock() - began >= 3.0
    assert [bytes(frame.data) for frame in router.returned] == [first, second]
    assert [(frame.in_interface, frame.out_interface, frame.next_hop) for frame in router.returned] == [
        (9, router.index, SILENT)
    ] * 2
    assert len(router.heard_arp(1)) == 3
    assert router.counters()[Counter.HANDED] == 2


def test_a_killed_process_leaves_no_frame_uncounted_and_works_again(router: Router) -> None:
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    assert router.stop(signal.SIGKILL) == -signal.SIGKILL
    router.start()
    assert router.counters().get(Counter.WAITING, 0) == 0
    assert router.counters()[Counter.DROP_RESTARTED] == 1
    router.heard.clear()
    router.hand_unresolved(HOST, PLAIN + bytes(12) + b"\x08\x00" + datagram(2))
    router.wait(lambda: bool(router.heard_arp(1)))
    reply = arp_bytes(2, (HOST_MAC, HOST_BYTES), (router.mac, OWN_BYTES))
    router.hand_arp(router.mac + HOST_MAC + b"\x08\x06" + reply, packet_type=0)
    router.wait(lambda: len(router.heard_ip()) == 1 and (router.index, HOST) in router.neighbours)


def test_it_stops_on_sigterm_and_counts_the_frames_that_waited(router: Router) -> None:
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    assert router.stop(signal.SIGTERM) == 0
    assert router.counters().get(Counter.WAITING, 0) == 0
    assert router.counters()[Counter.DROP_RESTARTED] == 1


def test_an_interface_may_go_and_come_back_under_another_index(router: Router) -> None:
    old_index, old_host = router.index, router.host
    router.hand_unresolved(SILENT, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.wait(lambda: router.counters().get(Counter.WAITING) == 1)
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        kernel.link("del", index=old_index)
    router.publisher.publish(RouterState(interfaces_gone=[old_index]), clock())
    router.interfaces = []
    router.wait(lambda: router.report is not None and router.report.interfaces == [])
    assert router.counters()[Counter.DROP_UNKNOWN_INTERFACE] == 1

    make_veth()
    old_host.close()
    router.host = Host()
    router.interfaces = [router._kernel_interface()]
    assert router.index != old_index
    router.publisher.publish(RouterState(interfaces=router.interfaces), clock())
    router.wait(lambda: router.report is not None and router.report.interfaces == [router.index])
    router.heard.clear()
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: len(router.heard_arp(2)) == 1)


def test_an_interface_may_be_replaced_before_control_tells_of_it(router: Router) -> None:
    with IPRoute(netns=ROUTER_NS, flags=0) as kernel:
        kernel.link("del", index=router.index)
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: router.counters().get(Counter.DROP_TX_FAILED, 0) >= 1)
    router.wait(lambda: router.report is not None and router.report.interfaces == [])
    make_veth(index=router.index)
    router.host.close()
    router.host = Host()
    router.wait(lambda: router.report is not None and router.report.interfaces == [router.index])
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: len(router.heard_arp(2)) == 1)


def test_what_the_kernel_refuses_to_send_is_counted(router: Router) -> None:
    router.hand_arp(
        BROADCAST + HOST_MAC + b"\x08\x06" + arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES)), packet_type=1
    )
    router.wait(lambda: bool(router.neighbours))
    too_long = PLAIN + bytes(12) + b"\x08\x00" + datagram(1, 1600)  # MTU 1500, and no super-frame
    router.hand_unresolved(HOST, too_long)
    router.wait(lambda: router.counters().get(Counter.DROP_TX_FAILED) == 1)


def test_malformed_messages_are_counted_and_nothing_else(router: Router) -> None:
    frame = BROADCAST + HOST_MAC + b"\x08\x06" + arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    header, descriptors, data = encode_frames("arp", [Frame(router.index, 0, 0, 1, False, PLAIN + frame)])
    ip_header = encode_frames("ip", [Frame(router.index, 0, 0, 1, False, PLAIN + frame)])[0]
    bad = [
        [b""],
        [b"\x01\xc1"],
        [b"\xff" * 40],
        [header],
        [header, descriptors],
        [header, descriptors, data[:-1]],
        [header, descriptors[:-4] + b"\xff\xff\xff\xff", data],
        [ip_header, descriptors, data],
        [encode(NeighboursUsed(neighbours=[])), b"more"],
        [encode(RouterState())],
    ]
    for parts in bad:
        router.send(parts)
    router.hand_arp(frame, packet_type=1)
    router.wait(lambda: bool(router.heard_arp(2)))
    assert router.counters()[Counter.BAD_MESSAGES] == len(bad)
    with pytest.raises(RpcRefusedError) as refused:
        router.rpc.call("neigh.sow")
    assert refused.value.error.code == "unknown-method"


def test_use_of_a_stale_neighbour_brings_it_to_delay(router: Router) -> None:
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: [each["state"] for each in router.rpc.call("neigh.show")] == ["STALE"])
    router.send([encode(NeighboursUsed(neighbours=[(router.index, HOST)]))])
    router.wait(lambda: [each["state"] for each in router.rpc.call("neigh.show")] == ["DELAY"])


def test_it_also_listens_where_it_is_told(router: Router, tmp_path: Path) -> None:
    router.stop(signal.SIGTERM)
    endpoint = f"ipc://{tmp_path}/elsewhere"
    router.start("--listen", endpoint)
    router.frames.close()
    router.frames = connected(router.context, zmq.PUSH, endpoint)
    request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, OWN_BYTES))
    router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
    router.wait(lambda: bool(router.heard_arp(2)))


def test_a_second_instance_is_refused_in_one_line(router: Router) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "services.arp"],
        cwd=REPOSITORY,
        env=os.environ | {"HOPWIRE_RUN_DIR": str(router.endpoints.run_dir)},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert router.process is not None
    assert second.returncode == 1
    assert second.stderr.count("\n") == 1
    assert f"arp already runs on {router.endpoints.run_dir} (process {router.process.pid})" in second.stderr


WITHOUT_NET_RAW = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(24, 13, 0, 0, 0) == 0  # PR_CAPBSET_DROP, CAP_NET_RAW: gone with the next execve
os.execv(sys.executable, [sys.executable, "-m", "services.arp", "--run-dir", sys.argv[1]])
"""


def test_without_the_capability_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NET_RAW, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "hopwire arp: cannot open an AF_PACKET socket: CAP_NET_RAW is missing; run as root\n"


def test_it_answers_for_hosts_that_the_forwarder_reaches_by_another_interface(router: Router) -> None:
    """RFC 1027. The forwarder is asked by RPC; here it says that 192.168.1.99 lies behind interface 77."""
    asked: list[tuple[str, dict[str, Any]]] = []

    def answer(method: str, params: dict[str, Any]) -> Any:
        asked.append((method, params))
        chosen = {"interface": 77 if params["dst"] == SILENT else router.index, "next_hop": params["dst"]}
        return {"prefix": 0, "prefix_length": 0, "kind": "unicast", "next_hops": [], "chosen": chosen, "mac": None}

    forwarder = RpcServer(router.context, router.endpoints.forwarder_rpc, answer)
    try:
        proxying = router.interfaces[0].model_copy(update={"policy": InterfacePolicy(proxy_arp=True)})
        router.publisher.publish(RouterState(interfaces=[proxying]), clock())
        router.wait(lambda: router.report is not None and router.report.generation == router.publisher.sequence)
        before = bytes((192, 168, 1, 98))
        for target in (before, SILENT_BYTES):
            request = arp_bytes(1, (HOST_MAC, HOST_BYTES), (NO_MAC, target))
            router.hand_arp(BROADCAST + HOST_MAC + b"\x08\x06" + request, packet_type=1)
        router.wait(lambda: forwarder.serve() == 0 and bool(router.heard_arp(2)))
        assert asked == [("route.get", {"dst": SILENT - 1}), ("route.get", {"dst": SILENT})]
        assert router.heard_arp(2) == [arp_bytes(2, (router.mac, SILENT_BYTES), (HOST_MAC, HOST_BYTES)) + bytes(18)]
    finally:
        forwarder.close()


def test_neighbours_are_removed_and_asked_by_rpc(router: Router) -> None:
    key = {"interface": router.index, "dst": HOST}
    assert router.rpc.call("neigh.probe", key) == {}
    router.wait(lambda: len(router.heard_arp(1)) == 1)
    reply = arp_bytes(2, (HOST_MAC, HOST_BYTES), (router.mac, OWN_BYTES))
    router.hand_arp(router.mac + HOST_MAC + b"\x08\x06" + reply, packet_type=0)
    router.wait(lambda: router.neighbours == {(router.index, HOST): HOST_MAC})
    assert router.rpc.call("neigh.del", key) == {}
    router.wait(lambda: router.neighbours == {})
    assert router.rpc.call("neigh.flush") == router.rpc.call("neigh.flush", {"interface": router.index}) == {}
    for method, params, code in (
        ("neigh.del", key, "refused"),
        ("neigh.del", {"dst": HOST}, "usage"),
        ("neigh.probe", {"interface": 99, "dst": HOST}, "refused"),
        ("neigh.probe", {"interface": router.index, "dst": "x"}, "usage"),
        ("neigh.flush", {"interface": -1}, "usage"),
    ):
        with pytest.raises(RpcRefusedError) as refused:
            router.rpc.call(method, params)
        assert refused.value.error.code == code, method


def test_arp_says_how_far_it_is_and_counts_what_never_came(router: Router) -> None:
    frame = Frame(9, router.index, HOST, 0, False, PLAIN + bytes(12) + b"\x08\x00" + datagram(1))
    router.send(encode_frames("unresolved", [frame], handed=5))
    router.send([encode(Handed(handed=6, answer=True))])
    router.wait(lambda: router.taken == 6)
    assert router.counters()[Counter.DROP_RESTARTED] == 5
    router.send([encode(Handed(handed=9, answer=True))])
    router.wait(lambda: router.taken == 9)
    assert router.counters()[Counter.DROP_RESTARTED] == 8
    assert router.counters()[Counter.WAITING] == 1
