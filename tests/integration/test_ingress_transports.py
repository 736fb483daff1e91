"""TCP with a host's own offloads, and an ingress that hands frames over inside messages."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from ingress_rig import (
    GSO,
    GSO_VIRTIO,
    HOST_MAC,
    HOST_NS,
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
)
from pyroute2 import IPRoute

from services.common import netns
from services.common.bus import bound
from services.common.endpoints import prepare_run_dir
from services.common.messages import FrameBatch, Handed, decode, decode_frames

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture(autouse=True)
def namespaces() -> Iterator[None]:
    with pair():
        yield


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with short_run_dir() as path:
        yield path


@pytest.fixture
def host() -> Iterator[Sender]:
    with sending() as sender:
        yield sender


def test_tcp_of_a_host_with_its_offloads(run_dir: Path) -> None:
    """What the kernel sends itself, its checksum unfinished."""
    for namespace, interface, address in ((ROUTER_NS, "e0", "10.9.8.1"), (HOST_NS, "h0", "10.9.8.2")):
        with netns.inside(namespace), IPRoute() as kernel:
            kernel.addr("add", index=kernel.link_lookup(ifname=interface)[0], address=address, prefixlen=24)
    with netns.inside(ROUTER_NS):
        listener = socket.create_server(("10.9.8.1", 80))
    with netns.inside(HOST_NS):
        client = socket.socket()
    with listener, client, started(run_dir) as router:
        ring = router.ring()
        client.settimeout(LIMIT_S)
        client.connect(("10.9.8.1", 80))
        client.sendall(b"x" * 20_000)
        super_frame = None
        while super_frame is None:
            (virtio, data, packet_type, _) = take(ring, 1)[0]
            flags, gso_type, _, gso_size, start, offset = struct.unpack("=BBHHHH", virtio)
            assert (packet_type, data[:12], flags & 1, start, offset) == (0, ROUTER_MAC + HOST_MAC, 1, 34, 16)
            if gso_type:
                super_frame = data
                assert (gso_type, gso_size) == (1, 1448)
    assert len(super_frame) > 1514
    assert super_frame.endswith(b"x" * 1448)


def test_inline_frames_travel_in_messages(run_dir: Path, host: Sender) -> None:
    with started(run_dir, "--transport", "inline") as router:
        inline_frames_arrive(router, router.frames, host)
        assert not router.endpoints.ring("e0").exists()


def test_inline_frames_to_a_forwarder_elsewhere(run_dir: Path, host: Sender) -> None:
    with zmq.Context() as context, bound(context, zmq.PULL, f"ipc://{prepare_run_dir(run_dir).run_dir}/far") as far:
        with netns.inside(ROUTER_NS):
            far.bind("tcp://127.0.0.1:*")
        endpoint = far.get_string(zmq.LAST_ENDPOINT)
        with started(run_dir, "--transport", "inline", "--forwarder", endpoint) as router:
            inline_frames_arrive(router, far, host)
            assert not router.frames.poll(0)


def inline_frames_arrive(router: Router, forwarder: "zmq.Socket[bytes]", host: Sender) -> None:
    sent = 0

    def arrives() -> bool:
        nonlocal sent
        host.send(frame(b"hello"))
        sent += 1
        return bool(forwarder.poll(50))

    wait_for("a batch", arrives)
    host.send(PARTIAL, PARTIAL_VIRTIO)
    host.send(GSO, GSO_VIRTIO)
    arrived: list[bytes] = []
    while not arrived or arrived[-1] != GSO_VIRTIO + GSO:
        assert forwarder.poll(int(LIMIT_S * 1000))
        header, *parts = forwarder.recv_multipart()
        batch = decode(header)
        if isinstance(batch, Handed):
            continue
        assert batch == FrameBatch(purpose="ip", count=batch.count, handed=batch.handed)
        for one in decode_frames(batch, parts):
            assert one[:5] == (router.index, 0, 0, 0, False)
            arrived.append(bytes(one.data))
    assert set(arrived[:-2]) == {PLAIN + frame(b"hello")}
    assert arrived[-2] == PARTIAL_VIRTIO + PARTIAL
    counted = router.counted()
    assert counted["HANDED"] == len(arrived)
    assert counted["RX_FRAMES"] == sent + 2 == len(arrived) + counted.get("DROP_FORWARDER_FULL", 0)
