"""The bus's messages: bytes typed by hand, round trips, and anything at all."""

import struct
import sys
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from services.common.messages import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_DTYPE,
    MAX_BATCH_FRAMES,
    MAX_FRAME_BYTES,
    MAX_MESSAGE_BYTES,
    ROUTE_BYTES,
    Frame,
    FrameBatch,
    Interface,
    InterfaceAddress,
    MessageError,
    Neighbour,
    NeighbourState,
    NeighboursUsed,
    NextHop,
    Path,
    Report,
    RouteChange,
    RouterState,
    RpcError,
    RpcReply,
    RpcRequest,
    SnapshotRequest,
    StateEnvelope,
    decode,
    decode_frames,
    encode,
    encode_frames,
    pack_routes,
    unpack_routes,
)
from services.common.parameters import ArpParameters, Parameters

QUESTION = (
    bytes.fromhex("01 84 a4")
    + b"kind\xabrpc-request"
    + b"\xa2id\xcd\x01\x02"
    + b"\xa6method\xa4show"
    + b"\xa6params\x80"
)
"""msgpack: a map of four; strings of up to 31 bytes are 0xa0 | length; 0xcd is a 16-bit number."""

MAC = bytes.fromhex("02000000000a")
ROUTER_STATE = RouterState(
    full=True,
    interfaces=[
        Interface(
            index=2,
            name="eth0",
            mac=MAC,
            mtu=1500,
            up=True,
            addresses=[InterfaceAddress(address=0xC0A80101, prefix_length=24)],
        )
    ],
    interfaces_gone=[7],
    paths=[Path(id=1, kind="unicast", next_hops=[NextHop(interface=2, gateway=0xC0A80109, weight=3)], mtu=1400)],
    paths_gone=[4],
    routes=pack_routes([RouteChange(0x0A000000, 8, 1)]),
    parameters=Parameters(arp=ArpParameters(retransmit_time_s=0.5)),
)
NEIGHBOUR_STATE = NeighbourState(neighbours=[Neighbour(interface=2, address=0xC0A80102, mac=MAC)], gone=[(3, 1)])
MESSAGES: list[BaseModel] = [
    RpcRequest(id=0x0102, method="show"),
    FrameBatch(purpose="arp", count=3),
    NeighboursUsed(neighbours=[(2, 0xC0A80102), (0x7FFF_FFFF, 0xFFFF_FFFF)]),
    StateEnvelope(epoch=1_700_000_000_000_000_000, sequence=12, body=ROUTER_STATE),
    StateEnvelope(epoch=2**63 - 1, sequence=0, body=NEIGHBOUR_STATE),
    StateEnvelope(epoch=5, sequence=9),
    SnapshotRequest(),
    RpcRequest(id=0, method="route.get", params={"dst": "10.0.0.1", "deep": [{"a": None, "b": 1.5}]}),
    RpcReply(id=2**63 - 1, result=[{"dst": "default", "lladdr": MAC}]),
    RpcReply(id=3, error=RpcError(code="refused", message="File exists")),
    Report(
        service="ingress",
        instance="ingress-eth0",
        pid=4242,
        ready=True,
        interfaces=[2],
        generation=3,
        counters={0: {}, 2: {"RX_FRAMES": 2**60}},
    ),
]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_bytes_typed_by_hand() -> None:
    assert decode(QUESTION) == RpcRequest(id=0x0102, method="show")
    given = QUESTION.replace(b"\x01\x84", b"\x01\x86") + b"\xa6client\xa2me" + b"\xa8deadline\xcb\x3f\xf8" + bytes(6)
    assert encode(RpcRequest(id=0x0102, method="show", client="me", deadline=1.5)) == given


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: str(message.kind))
def test_round_trip(message: BaseModel) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01", id="no map"),
        pytest.param(b"\x02" + QUESTION[1:], id="another version"),
        pytest.param(QUESTION + b"\x00", id="bytes behind it"),
        pytest.param(QUESTION[:-1], id="cut"),
        pytest.param(QUESTION.replace(b"rpc-request", b"rpc-rEquest"), id="unknown kind"),
        pytest.param(QUESTION.replace(b"\xa6method", b"\xa6mEthod"), id="unknown and missing key"),
        pytest.param(QUESTION.replace(b"\x84\xa4kind\xabrpc-request", b"\x83"), id="no kind"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xff"), id="negative id"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xcf" + b"\xff" * 8), id="id over 63 bits"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xa1" + b"9"), id="id as text"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xbe" + b"9" * 30), id="id as a long text"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xc3"), id="id as a truth value"),
        pytest.param(QUESTION.replace(b"\xcd\x01\x02", b"\xcb\x3f\xf0" + bytes(6)), id="id as 1.0"),
        pytest.param(QUESTION.replace(b"\xa4show", b"\xc4\x04show"), id="bytes for a text"),
        pytest.param(QUESTION.replace(b"\xa4show", b"\xa4\xff\xfe\xfd\xfc"), id="text that is not UTF-8"),
        pytest.param(QUESTION.replace(b"\xa4show", b"\xd9\x41" + b"x" * 65), id="name too long"),
        pytest.param(b"\x01\x81\x90\x01", id="a list as a key"),
        pytest.param(b"\x01\x81\x80\x01", id="a map as a key"),
        pytest.param(b"\x01" + b"\x91" * 3000 + b"\x01", id="too deep"),
        pytest.param(b"\x01\xdd\xff\xff\xff\xff", id="a list of 2**32 things"),
        pytest.param(b"\x01\xc1", id="a byte that msgpack does not use"),
        pytest.param(b"\x01\xd6\xff\x00\x00\x00\x00", id="a timestamp"),
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(MessageError):
        decode(data)


def test_one_byte_too_long() -> None:
    with pytest.raises(MessageError, match="too long"):
        decode(b"\x01" + bytes(MAX_MESSAGE_BYTES))


def test_the_error_is_one_line() -> None:
    with pytest.raises(MessageError) as caught:
        decode(b"\x01" + msgpack.packb({"kind": "frames", "purpose": "x", "count": 0, "more": 1}))
    assert str(caught.value)
    assert "\n" not in str(caught.value)


names_of_kinds = st.sampled_from(sorted({str(message.kind) for message in MESSAGES} | {"router-state", "x"}))  # type: ignore[attr-defined]
names_of_fields = st.sampled_from(sorted({name for message in MESSAGES for name in type(message).model_fields}))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.text("0123456789", min_size=1, max_size=40)
    | st.binary(max_size=12)
    | names_of_kinds
)
trees = st.recursive(
    scalars,
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(names_of_fields | st.integers(0, 5), children, max_size=4)
    ),
    max_leaves=12,
)
shaped = st.builds(lambda kind, rest: {**rest, "kind": kind}, names_of_kinds, st.dictionaries(names_of_fields, trees))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid message some of whose bytes are changed, taken out or put in."""
    data = bytearray(encode(draw(st.sampled_from(MESSAGES))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(1, len(data) - 1))
        change = draw(st.sampled_from(["set", "insert", "delete", "cut"]))
        if change == "set":
            data[place] = draw(st.integers(0, 255))
        elif change == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=9))
        elif change == "delete":
            del data[place : place + draw(st.integers(1, 9))]
        else:
            del data[place:]
        assume(len(data) > 1)
    return bytes(data)


@settings(max_examples=500)
@given(st.binary(max_size=200) | mutated() | shaped.map(lambda tree: b"\x01" + msgpack.packb(tree)))
@example(b"\x01\x81\x90\x01")
def test_any_bytes_are_a_message_or_give_the_one_error(data: bytes) -> None:
    try:
        message = decode(data)
    except MessageError:
        return
    # what was accepted can be passed on: no number or text that the encoder refuses
    passed_on = encode(message)
    assert encode(decode(passed_on)) == passed_on


@given(st.sampled_from(MESSAGES), trees, st.data())
def test_one_wrong_field_gives_the_one_error_or_is_sound(message: BaseModel, value: Any, data: st.DataObject) -> None:
    fields = message.model_dump()
    fields[data.draw(st.sampled_from(sorted(fields)))] = value
    try:
        accepted = decode(b"\x01" + msgpack.packb(fields))
    except MessageError:
        return
    encode(accepted)


# --- frames -----------------------------------------------------------------------------------------------------------

VIRTIO = bytes(10)
FRAMES = [
    Frame(2, 3, 0xC0A80102, 0, generated=False, data=VIRTIO + b"first frame"),
    Frame(0, 0x7FFF_FFFF, 0, 4, generated=True, data=VIRTIO),
]


def native(*numbers: tuple[int, int]) -> bytes:
    """Numbers of so many bytes each, one behind the other, in this machine's order."""
    return b"".join(struct.pack({2: "=H", 4: "=I"}[size], number) for number, size in numbers)


DESCRIPTORS = native((2, 4), (3, 4), (0xC0A80102, 4), (0, 2), (0, 2), (21, 4)) + native(
    (0, 4), (0x7FFF_FFFF, 4), (0, 4), (4, 2), (1, 2), (10, 4)
)


def test_a_batch_is_header_descriptors_and_bytes() -> None:
    header, descriptors, data = encode_frames("unresolved", FRAMES)
    assert decode(header) == FrameBatch(purpose="unresolved", count=2)
    assert descriptors == DESCRIPTORS
    assert data == VIRTIO + b"first frame" + VIRTIO


def test_decode_frames() -> None:
    header = FrameBatch(purpose="unresolved", count=2)
    assert decode_frames(header, [DESCRIPTORS, VIRTIO + b"first frame" + VIRTIO]) == FRAMES


def test_numpy_sees_the_same_record() -> None:
    dtype = np.dtype(DESCRIPTOR_DTYPE)
    assert dtype.itemsize == DESCRIPTOR_BYTES == 20
    first, second = np.frombuffer(DESCRIPTORS, dtype)
    assert first.tolist() == (2, 3, 0xC0A80102, 0, 0, 21)
    assert second.tolist() == (0, 0x7FFF_FFFF, 0, 4, 1, 10)


@pytest.mark.parametrize(
    ("count", "parts"),
    [
        pytest.param(2, [], id="no parts"),
        pytest.param(2, [DESCRIPTORS], id="no bytes"),
        pytest.param(2, [DESCRIPTORS, bytes(31), b""], id="a part too many"),
        pytest.param(1, [DESCRIPTORS, bytes(31)], id="more descriptors than said"),
        pytest.param(3, [DESCRIPTORS, bytes(31)], id="fewer descriptors than said"),
        pytest.param(2, [DESCRIPTORS[:-1], bytes(31)], id="a cut descriptor"),
        pytest.param(2, [DESCRIPTORS, bytes(30)], id="bytes missing"),
        pytest.param(2, [DESCRIPTORS, bytes(32)], id="bytes left over"),
        pytest.param(1, [native((2, 4), (3, 4), (0, 4), (0, 4), (9, 4)), bytes(9)], id="no room for the virtio header"),
        pytest.param(1, [native((2, 4), (3, 4), (0, 4), (0, 4), (0xFFFF_FFFF, 4)), bytes(31)], id="4 GiB"),
        pytest.param(
            1,
            [native((2, 4), (3, 4), (0, 4), (0, 4), (MAX_FRAME_BYTES + 11, 4)), bytes(MAX_FRAME_BYTES + 11)],
            id="longer than any frame",
        ),
    ],
)
def test_lying_lengths(count: int, parts: list[bytes]) -> None:
    with pytest.raises(MessageError, match="frames: "):
        decode_frames(FrameBatch(purpose="ip", count=count), parts)


def test_the_longest_frame() -> None:
    longest = VIRTIO + bytes(MAX_FRAME_BYTES)
    parts = [native((2, 4), (3, 4), (0, 4), (0, 4), (len(longest), 4)), longest]
    (frame,) = decode_frames(FrameBatch(purpose="ip", count=1), parts)
    assert len(frame.data) == 10 + 65_550


@given(st.integers(1, 4), st.lists(st.binary(max_size=100), max_size=3))
def test_any_parts_are_frames_or_give_the_one_error(count: int, parts: list[bytes]) -> None:
    try:
        frames = decode_frames(FrameBatch(purpose="ip", count=count), parts)
    except MessageError:
        return
    assert b"".join(frame.data for frame in frames) == parts[1]


@pytest.mark.parametrize("count", [0, MAX_BATCH_FRAMES + 1])
def test_a_batch_has_bounds(count: int) -> None:
    with pytest.raises(ValidationError):
        FrameBatch(purpose="ip", count=count)


# --- routes -----------------------------------------------------------------------------------------------------------

ROUTES = [RouteChange(0, 0, 7), RouteChange(0x0A000000, 8, 0), RouteChange(0xFFFFFFFF, 32, 0x7FFF_FFFF)]
PACKED = b"".join(
    prefix.to_bytes(4, "little") + bytes((length,)) + path.to_bytes(4, "little") for prefix, length, path in ROUTES
)


@pytest.mark.skipif(sys.byteorder != "little", reason="the bytes below are those of a little-endian machine")
def test_routes_are_records_of_nine_bytes() -> None:
    assert ROUTE_BYTES == 9
    assert pack_routes(ROUTES) == PACKED
    assert unpack_routes(PACKED) == ROUTES


def test_no_routes() -> None:
    assert pack_routes([]) == b""
    assert unpack_routes(b"") == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PACKED[:-1], id="a cut record"),
        pytest.param(struct.pack("=IBI", 0x0A000001, 31, 1), id="a host bit under /31"),
        pytest.param(struct.pack("=IBI", 0x80000000, 0, 1), id="a host bit under /0"),
        pytest.param(struct.pack("=IBI", 0x0A000000, 33, 1), id="longer than 32"),
        pytest.param(struct.pack("=IBI", 0, 255, 1), id="far longer than 32"),
    ],
)
def test_routes_that_are_none(data: bytes) -> None:
    with pytest.raises(MessageError, match="routes: "):
        unpack_routes(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_routes_or_give_the_one_error(data: bytes) -> None:
    try:
        routes = unpack_routes(data)
    except MessageError:
        return
    assert pack_routes(routes) == data
    assert all(route.prefix_length <= 32 for route in routes)
