"""The parameters of the RPC methods, checked once: text in, typed values out."""

import re
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from services.common.bus import RpcRefusedError
from services.common.counters import DROPS
from services.common.messages import RpcError
from services.common.parameters import InterfacePolicy, Martians, ReversePath
from services.common.wire.ipv4 import DEFAULT_TTL, MAX_BYTES
from services.control.kernel_types import RouteType
from services.control.names import PROTOCOL_NUMBERS, PROTOCOLS, SCOPE_NUMBERS

ANYWHERE: Final = IPv4Network("0.0.0.0/0")
_MAX_U32: Final = 0xFFFF_FFFF
_DROP_REASONS: Final = tuple(reason.name for reason in DROPS)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII | re.IGNORECASE)


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not {what}")  # noqa: TRY004 - pydantic turns only this into its own error
    return value


def _prefix(value: Any) -> IPv4Network:
    text = _text(value, "a prefix such as 10.0.0.0/8")
    if text == "default":
        return ANYWHERE
    try:
        interface = IPv4Interface(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a prefix such as 10.0.0.0/8, an IPv4 address, or default") from error
    if interface.ip != interface.network.network_address:
        raise ValueError(f"{text!r} has host bits set; the prefix is {interface.network}")
    return interface.network


def _address(value: Any) -> IPv4Address:
    text = _text(value, "an IPv4 address")
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv4 address") from error


def _interface_address(value: Any) -> IPv4Interface:
    text = _text(value, "an address such as 10.0.0.1/24")
    try:
        return IPv4Interface(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an address such as 10.0.0.1/24") from error


def _mac(value: Any) -> bytes:
    text = _text(value, "a MAC address such as 02:00:00:00:00:01")
    if not _MAC.fullmatch(text):
        raise ValueError(f"{text!r} is not a MAC address such as 02:00:00:00:00:01")
    return bytes.fromhex(text.replace(":", ""))


def _protocol(value: Any) -> int:
    number = PROTOCOL_NUMBERS.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
        names = ", ".join(PROTOCOLS.values())
        raise ValueError(f"{value!r} is not a routing protocol: a number of 0 to 255, or one of {names}")
    return number


def _scope(value: Any) -> int:
    number = SCOPE_NUMBERS.get(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= 255:
        raise ValueError(f"{value!r} is not a scope: a number of 0 to 255, or one of {', '.join(SCOPE_NUMBERS)}")
    return number


def _route_type(value: Any) -> RouteType:
    names = [one.name.lower() for one in RouteType if one is not RouteType.UNSPEC]
    if value not in names:
        raise ValueError(f"{value!r} is not a type of route: {', '.join(names)}")
    return RouteType[str(value).upper()]


_DOTTED: Final = r"[0-9]{1,3}(\.[0-9]{1,3}){3}"
Prefix = Annotated[
    IPv4Network,
    PlainValidator(_prefix),
    WithJsonSchema({"type": "string", "pattern": rf"^(default|{_DOTTED}(/[0-9.]+)?)$"}),
]
Address = Annotated[
    IPv4Address, PlainValidator(_address), WithJsonSchema({"type": "string", "pattern": f"^{_DOTTED}$"})
]
InterfaceAddress = Annotated[
    IPv4Interface,
    PlainValidator(_interface_address),
    WithJsonSchema({"type": "string", "pattern": f"^{_DOTTED}(/[0-9.]+)?$"}),
]
MacAddress = Annotated[bytes, BeforeValidator(_mac)]
Protocol = Annotated[int, BeforeValidator(_protocol)]
Scope = Annotated[int, BeforeValidator(_scope)]
KernelRouteType = Annotated[RouteType, BeforeValidator(_route_type)]
Device = Annotated[str, Field(min_length=1, max_length=15)]
Unsigned = Annotated[int, Field(ge=0, le=_MAX_U32)]


class Params(BaseModel):
    """What the parameters of all methods have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NextHopSpec(Params):
    """One way of a multipath route."""

    via: Address | None = Field(None, description="the gateway")
    dev: Device | None = Field(None, description="name of the interface")
    weight: int = Field(1, ge=1, le=256, description="its share of the flows")
    # rtnh_hops of linux/rtnetlink.h is a byte that holds weight - 1

    @model_validator(mode="after")
    def _leads_somewhere(self) -> "NextHopSpec":
        if self.via is None and self.dev is None:
            raise ValueError("a next hop needs via or dev")
        return self


class RouteDescription(Params):
    """A route as a user writes it, less who installs it."""

    dst: Prefix = Field(description="prefix, address, or default")
    type: Literal["unicast", "blackhole", "unreachable", "prohibit"] | None = Field(
        None, description="unicast where it is left out"
    )
    via: Address | None = Field(None, description="the gateway; without one the destination is on the link of dev")
    dev: Device | None = Field(None, description="name of the interface")
    metric: Unsigned | None = Field(None, description="the lowest is used; 0 where it is left out")
    mtu: Unsigned | None = Field(None, description="bytes of IP; the interface's where it is left out")
    src: Address | None = Field(None, description="preferred source of the router's own datagrams")
    onlink: bool = Field(default=False, description="take the gateway for reachable on dev")
    nexthops: list[NextHopSpec] = Field([], description="in place of via and dev: several ways, by weight")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        has_way = self.via is not None or self.dev is not None
        if self.nexthops and has_way:
            raise ValueError("give either via and dev, or nexthops")
        if self.type not in (None, "unicast") and (has_way or self.nexthops):
            raise ValueError(f"a route of type {self.type} has no via, dev or nexthops")
        return self


class RouteSpec(RouteDescription):
    """A route as a user writes it."""

    proto: Protocol | None = None


class RouteFilter(Params):
    """Which routes to show."""

    dst: Prefix | None = None
    root: Prefix | None = None
    """All prefixes within this one."""
    match: Prefix | None = None
    """All prefixes that hold this one."""
    dev: Device | None = None
    via: Address | None = None
    proto: Protocol | None = None
    scope: Scope | None = None
    type: KernelRouteType | None = None
    table: Literal["main", "local", "all"] = "main"


class RouteFlush(RouteFilter):
    """Which routes to remove."""

    @model_validator(mode="after")
    def _selects(self) -> "RouteFlush":
        if not self.model_fields_set:
            raise ValueError(f"give one of {', '.join(RouteFlush.model_fields)}: nothing is removed without")
        return self


class Flow(Params):
    """What a datagram carries."""

    protocol: Literal["icmp", "tcp", "udp"] = "icmp"
    port: Annotated[int, Field(ge=0, le=0xFFFF)] | None = None


class RouteQuestion(Params):
    """A datagram to look up."""

    dst: Address
    src: Address | None = None
    iif: Device | None = None

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> "RouteQuestion":
        if self.iif is not None and self.src is None:
            raise ValueError("iif: give from (src) as well: the way back to the source is what it is checked for")
        return self


class DropFilter(Params):
    """Which dropped frames to show."""

    reason: str | None = None
    dev: Device | None = None

    @field_validator("reason")
    @classmethod
    def _is_reason(cls, reason: str | None) -> str | None:
        if reason is not None and reason not in _DROP_REASONS:
            raise ValueError(f"{reason!r} is no drop reason; there are: {', '.join(_DROP_REASONS)}")
        return reason


class WhyQuestion(Params):
    """A datagram, of which it is asked what would become of it."""

    src: Address
    dst: Address
    flow: Flow = Flow()
    iif: Device | None = None
    size: Annotated[int, Field(ge=28, le=MAX_BYTES)] = 84
    ttl: Annotated[int, Field(ge=0, le=255)] = DEFAULT_TTL


class AddressFilter(Params):
    """Which addresses to remove."""

    dev: Device | None = None
    to: Prefix | None = None
    scope: Scope | None = None

    @model_validator(mode="after")
    def _selects(self) -> "AddressFilter":
        if not self.model_fields_set:
            raise ValueError("give one of dev, to, scope: nothing is removed without")
        return self


class AddressParams(Params):
    """An address of an interface."""

    address: InterfaceAddress
    dev: Device


class DeviceFilter(Params):
    """Which interface to show; all without one."""

    dev: Device | None = None


class NeighbourParams(Params):
    """A neighbour."""

    dst: Address
    dev: Device


class NeighbourSpec(NeighbourParams):
    """A permanent neighbour."""

    lladdr: MacAddress
    nud: Literal["permanent"] = "permanent"


class NeighbourFilter(DeviceFilter):
    """Which neighbours to show."""

    dst: Address | None = None


class FlushParams(DeviceFilter):
    """Which interface's neighbours to flush; all, with or without that word, when none is named."""

    all: bool = False


class LinkParams(Params):
    """What to change of an interface."""

    dev: Device
    up: bool | None = None
    mtu: Annotated[int, Field(ge=0, le=0x7FFF_FFFF)] | None = None
    address: MacAddress | None = None
    reverse_path: ReversePath | None = None
    martians: Martians | None = None
    directed_broadcast: bool | None = None
    redirects: bool | None = None
    proxy_arp: bool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> "LinkParams":
        if not self.changes_kernel and not self.policy:
            raise ValueError(f"give up, mtu, address, {', '.join(InterfacePolicy.model_fields)}")
        return self

    @property
    def changes_kernel(self) -> bool:
        """Whether it asks for something that is the kernel's."""
        return self.up is not None or self.mtu is not None or self.address is not None

    @property
    def policy(self) -> dict[str, Any]:
        """What it changes of the interface's policy."""
        return self.model_dump(include=set(InterfacePolicy.model_fields), exclude_none=True)


class NoParams(Params):
    """None at all."""


ParamsT = TypeVar("ParamsT", bound=Params)


def checked(model: type[ParamsT], params: dict[str, Any]) -> ParamsT:
    """Return the parameters of a request.

    :raises RpcRefusedError: with code `usage`: which parameter is wrong, and what is allowed.
    """
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise RpcRefusedError(RpcError(code="usage", message=_explained(model, error))) from error


def _explained(model: type[Params], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{place}: no such parameter; there are: {', '.join(model.model_fields) or 'none'}"
    if first["type"] == "missing":
        return f"{place}: missing"
    message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return f"{place}: {message}" if place else message
