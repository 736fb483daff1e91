"""The bus's messages: closed kinds, checked once at the edge. Nothing else travels between services.

A message is a version byte and a msgpack map whose key `kind` names its class below. A batch of frames adds two
parts: descriptors, and the frames' bytes one after the other (see `FrameBatch`). IPv4 addresses are integers in
host order, hardware addresses 6 bytes.
"""

import struct
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgpack
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.common.meters import HISTOGRAM_VALUES
from services.common.nat_rules import NatRules
from services.common.parameters import InterfacePolicy, Parameters
from services.common.wire import ethernet, virtio_net

VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 64 * 2**20  # a snapshot of a million routes is 9 MB
MAX_BATCH_FRAMES: Final = 1024
MAX_FRAME_BYTES: Final = 65_536 + ethernet.HEADER_BYTES  # GSO_LEGACY_MAX_SIZE of Linux, and the Ethernet header

Address = Annotated[int, Field(ge=0, le=0xFFFF_FFFF)]
PrefixLength = Annotated[int, Field(ge=0, le=32)]
InterfaceIndex = Annotated[int, Field(ge=0, le=0x7FFF_FFFF)]
NeighbourKey = Annotated[tuple[InterfaceIndex, Address], Field(strict=False)]  # a list, as msgpack knows no tuple
Mac = Annotated[bytes, Field(min_length=6, max_length=6)]
Name = Annotated[str, Field(max_length=64)]
Number = Annotated[int, Field(ge=0, le=2**63 - 1)]  # what msgpack, struct and NumPy carry on in 64 bits
Mtu = Annotated[int, Field(ge=0, le=0x7FFF_FFFF)]  # bytes of IP; a signed 32-bit number in Linux
Count = Annotated[int, Field(ge=0, le=2**60)]  # bytes of 18 years at 2 GB/s; sums over services stay below 2**64


class MessageError(ValueError):
    """Bytes that are no message of this version; the receiver counts and drops them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


# --- Frames -----------------------------------------------------------------------------------------------------------


class FrameBatch(_Part):
    """The header of a batch of frames, whose descriptors and bytes follow as two more parts."""

    kind: Literal["frames"] = "frames"
    purpose: Literal["ip", "arp", "unresolved", "unreachable"] = Field(
        description="ip: ingress → forwarder; arp: ingress → arp; unresolved: forwarder → arp, to be sent to a next "
        "hop as soon as its MAC is known; unreachable: arp → forwarder, whose next hop never answered"
    )
    count: int = Field(ge=1, le=MAX_BATCH_FRAMES)
    handed: Number | None = Field(
        default=None,
        description="frames that the sender has handed to this service before these; none: it keeps no count",
    )


class Frame(NamedTuple):
    """One frame of a batch."""

    in_interface: int
    """Index of the interface it came in by; 0 for a generated frame."""
    out_interface: int
    """Index of the interface it shall leave by; 0 where nobody has decided yet."""
    next_hop: int
    """IPv4 address to resolve; 0 where nobody has decided yet."""
    packet_type: int
    """PACKET_HOST, PACKET_BROADCAST, … as AF_PACKET gave it."""
    generated: bool
    """Made by hopwire itself, not received."""
    data: bytes | memoryview
    """The virtio network header (10 bytes), then the Ethernet frame."""


_DESCRIPTOR = struct.Struct("=IIIHHI")  # in, out, next hop, packet type, generated, bytes
DESCRIPTOR_BYTES: Final = _DESCRIPTOR.size
DESCRIPTOR_DTYPE: Final = [
    ("in_interface", "=u4"),
    ("out_interface", "=u4"),
    ("next_hop", "=u4"),
    ("packet_type", "=u2"),
    ("generated", "=u2"),
    ("bytes", "=u4"),
]
"""The same record for NumPy, with whose help a service that has it reads and writes a batch at once."""


class Handed(_Part):
    """Sender of frames → their receiver: how many there were. What has not come by now is lost."""

    kind: Literal["handed"] = "handed"
    interface: InterfaceIndex = Field(default=0, description="of an ingress, its interface; 0: the forwarder, or arp")
    handed: Number = Field(description="frames in all messages so far")
    answer: bool = Field(default=False, description="to arp: publish at once how far it is, as `taken`")


class NeighboursUsed(_Part):
    """forwarder → arp: the neighbours that frames were sent to since the last such message."""

    kind: Literal["neighbours-used"] = "neighbours-used"
    neighbours: list[NeighbourKey]


# --- State ------------------------------------------------------------------------------------------------------------


class InterfaceAddress(_Part):
    """An IPv4 address of an interface."""

    address: Address
    prefix_length: PrefixLength


class Interface(_Part):
    """An Ethernet interface of the router."""

    index: InterfaceIndex
    name: Name
    mac: Mac
    mtu: Mtu = Field(description="bytes of IP")
    up: bool = Field(description="administratively up, and with carrier")
    addresses: list[InterfaceAddress]
    policy: InterfacePolicy = InterfacePolicy()


RouteKind = Literal["unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit"]


class NextHop(_Part):
    """One way out of a route."""

    interface: InterfaceIndex
    gateway: Address = Field(description="0: the destination itself is on the link")
    weight: int = Field(default=1, ge=1, le=65_536)


class Path(_Part):
    """What to do with a destination; shared by all routes that do the same."""

    id: int = Field(ge=1, le=0x7FFF_FFFF)
    kind: RouteKind
    next_hops: list[NextHop] = Field(description="empty unless unicast")
    mtu: Mtu = Field(default=0, description="the route's own MTU in bytes; 0: the interface's")


_ROUTE = struct.Struct("=IBI")
ROUTE_BYTES: Final = _ROUTE.size
ROUTE_DTYPE: Final = [("prefix", "=u4"), ("length", "u1"), ("path", "=u4")]
"""The same record for NumPy."""


class RouteChange(NamedTuple):
    """One route: to `path_id`, or withdrawn when that is 0."""

    prefix: int
    prefix_length: int
    path_id: int


def pack_routes(routes: Iterable[RouteChange]) -> bytes:
    """Return routes as 9-byte records `=IBI`: a million of them are one string, not a million maps."""
    return b"".join(_ROUTE.pack(*route) for route in routes)


def unpack_routes(data: bytes) -> list[RouteChange]:
    """Read the records that `pack_routes` wrote.

    :raises MessageError: a cut record, or a prefix with host bits or a length over 32.
    """
    if len(data) % ROUTE_BYTES:
        raise MessageError("routes: the length is no multiple of a record")
    routes = [RouteChange(*fields) for fields in _ROUTE.iter_unpack(data)]
    for prefix, length, _ in routes:
        if length > 32 or prefix & (0xFFFF_FFFF >> length):
            raise MessageError("routes: a prefix with host bits, or longer than 32")
    return routes


class RouterState(_Part):
    """control → all: a change of interfaces and routes, or with `full` the whole of them."""

    kind: Literal["router-state"] = "router-state"
    full: bool = False
    interfaces: list[Interface] = []
    interfaces_gone: list[InterfaceIndex] = []
    paths: list[Path] = []
    paths_gone: list[int] = []
    routes: bytes = Field(default=b"", description="see `pack_routes`; applied after the paths")
    parameters: Parameters | None = None
    nat: NatRules | None = Field(default=None, description="rules of address translation, all of them")


class Neighbour(_Part):
    """A neighbour whose MAC is known."""

    interface: InterfaceIndex
    address: Address
    mac: Mac


class NeighbourState(_Part):
    """arp → forwarder: a change of usable neighbours, or with `full` all of them."""

    kind: Literal["neighbour-state"] = "neighbour-state"
    full: bool = False
    neighbours: list[Neighbour] = []
    gone: list[NeighbourKey] = []
    taken: Number = Field(
        default=0, description="frames of the forwarder's, by its count, that are sent or wait by now"
    )


class StateEnvelope(_Part):
    """What PUB and the snapshot sockets carry: a body in its place in the publisher's sequence."""

    kind: Literal["state"] = "state"
    epoch: Number = Field(description="the publisher's start; another one means: all before is void")
    sequence: Number = Field(description="of this change; of the last one in a snapshot or a heartbeat")
    body: Annotated[RouterState | NeighbourState, Field(discriminator="kind")] | None = Field(
        default=None, description="none in a heartbeat"
    )


class SnapshotRequest(_Part):
    """Subscriber → publisher: send everything."""

    kind: Literal["snapshot-request"] = "snapshot-request"


# --- RPC and reports --------------------------------------------------------------------------------------------------


class RpcRequest(_Part):
    """A question. The same id twice, of the same client, is the same question, and carried out once."""

    kind: Literal["rpc-request"] = "rpc-request"
    id: Number
    method: Name
    params: dict[str, Any] = {}
    client: Name = Field(default="", description="who asks, also after reconnecting; none: this connection")
    deadline: float | None = Field(
        default=None, description="Unix time in seconds after which nobody waits: it is not carried out any more"
    )


class RpcError(_Part):
    """Why a request was not carried out."""

    code: Literal["usage", "refused", "unknown-method", "unavailable", "expired"]
    message: str


class RpcReply(_Part):
    """The answer to the request of this id: a result or an error."""

    kind: Literal["rpc-reply"] = "rpc-reply"
    id: Number
    result: Any = None
    error: RpcError | None = None


class NatFigures(_Part):
    """How full the forwarder's table of sessions is."""

    sessions: dict[Name, Count] = Field(description="by protocol and state")
    capacity: Count
    ports: dict[Name, dict[Name, Count]] = Field(description="ports in use, by outside address and protocol")


class Report(_Part):
    """Service → control, a few times a second: it lives, and this is what it has counted so far."""

    kind: Literal["report"] = "report"
    service: Literal["ingress", "forwarder", "arp"]
    instance: Name = Field(description="the service's name; for an ingress with its interface: `ingress-eth0`")
    pid: Number
    ready: bool
    interfaces: list[InterfaceIndex] = Field(description="the interfaces it serves")
    generation: Number = Field(default=0, description="the last sequence number of control's state it has applied")
    counters: dict[InterfaceIndex, dict[Name, Count]] = Field(description="by interface index and `Counter` name")
    nat: NatFigures | None = Field(default=None, description="of the forwarder, while it translates")
    meters: dict[Name, Count] = Field(default={}, description="by `Meter` name, cumulative")
    histograms: dict[Name, Annotated[list[Count], Field(max_length=HISTOGRAM_VALUES)]] = Field(
        default={}, description="by `Histogram` name: the sum of the values, then the buckets, cumulative"
    )
    gauges: dict[InterfaceIndex, dict[Name, Count]] = Field(
        default={}, description="by interface index and `Gauge` name: what is now"
    )


Message = Annotated[
    FrameBatch | Handed | NeighboursUsed | StateEnvelope | SnapshotRequest | RpcRequest | RpcReply | Report,
    Field(discriminator="kind"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Message)


def encode(message: BaseModel) -> bytes:
    """Return a message's bytes: the version, then its fields as a msgpack map."""
    packed: bytes = msgpack.packb(message.model_dump())
    return bytes((VERSION,)) + packed


def decode(data: bytes) -> Any:
    """Return the message in `data`: one of the classes of `Message`.

    :raises MessageError: any bytes that are not one.
    """
    if not data or data[0] != VERSION:
        raise MessageError(f"not a message of version {VERSION}")
    if len(data) > MAX_MESSAGE_BYTES:
        raise MessageError("message too long")
    try:
        return _ADAPTER.validate_python(msgpack.unpackb(memoryview(data)[1:], strict_map_key=False))
    except (ValidationError, ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        # TypeError: a map whose key is a list or a map
        raise MessageError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error


def encode_frames(
    purpose: Literal["ip", "arp", "unresolved", "unreachable"], frames: Sequence[Frame], handed: int | None = None
) -> list[bytes]:
    """Return the three parts of a batch: header, descriptors, bytes.

    :param handed: frames handed over before these (see `services.common.ledger`).
    """
    descriptors = b"".join(
        _DESCRIPTOR.pack(
            frame.in_interface,
            frame.out_interface,
            frame.next_hop,
            frame.packet_type,
            frame.generated,
            len(frame.data),
        )
        for frame in frames
    )
    header = encode(FrameBatch(purpose=purpose, count=len(frames), handed=handed))
    return [header, descriptors, b"".join(frame.data for frame in frames)]


def decode_frames(header: FrameBatch, parts: Sequence[bytes]) -> list[Frame]:
    """Return the frames of a batch from its second and third part.

    :raises MessageError: parts missing, or lengths that do not agree with each other.
    """
    if len(parts) != 2 or len(parts[0]) != header.count * DESCRIPTOR_BYTES:
        raise MessageError("frames: descriptors do not agree with the count")
    data = memoryview(parts[1])
    frames = []
    start = 0
    for in_interface, out_interface, next_hop, packet_type, generated, length in _DESCRIPTOR.iter_unpack(parts[0]):
        end = start + length
        if not virtio_net.HEADER_BYTES <= length <= virtio_net.HEADER_BYTES + MAX_FRAME_BYTES or end > len(data):
            raise MessageError("frames: a length is out of bounds")
        frames.append(Frame(in_interface, out_interface, next_hop, packet_type, bool(generated), data[start:end]))
        start = end
    if start != len(data):
        raise MessageError("frames: bytes left over")
    return frames
