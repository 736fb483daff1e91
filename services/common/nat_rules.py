"""What an operator says about address translation: rules and settings, with their defaults and sources."""

from ipaddress import IPv4Address
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

InterfaceName = Annotated[str, Field(min_length=1, max_length=15)]
Port = Annotated[int, Field(ge=1, le=65_535)]
TimeoutSeconds = Annotated[float, Field(gt=0, le=1_000_000)]

MAX_POOL_ADDRESSES: Final = 16
MAX_MASQUERADES: Final = 60
MAX_FORWARDS: Final = 256
MAX_ONE_TO_ONE: Final = 64
MAX_SESSIONS: Final = 1 << 20
SESSION_STATES: Final = ("tcp transitory", "tcp established", "udp", "icmp", "other")
PORT_PROTOCOLS: Final = ("tcp", "udp", "icmp")
"""Those that have ports of their own on every outside address; of ICMP queries the identifier."""


def _host(text: str) -> str:
    address = IPv4Address(text)
    if address.is_multicast or address.is_loopback or address.is_reserved or int(address) >> 24 == 0:
        raise ValueError(f"{text} is no single host's address")
    return str(address)


HostAddress = Annotated[str, AfterValidator(_host)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Masquerade(_Part):
    """Sources of what leaves by an interface become an address of the router's there (source NAPT)."""

    interface: InterfaceName = Field(description="the outside one")
    inside: tuple[InterfaceName, ...] = Field((), description="where the hosts are; by default all other interfaces")
    addresses: tuple[HostAddress, ...] = Field(
        (), max_length=MAX_POOL_ADDRESSES, description="outside addresses; by default the interface's first"
    )


class Forward(_Part):
    """What comes to a port of an outside address goes to an inside host (destination NAT)."""

    protocol: Literal["tcp", "udp"]
    address: HostAddress = Field(description="the outside address")
    port: Port
    last_port: Port | None = Field(None, description="of a range; by default `port` alone")
    to: HostAddress
    to_port: Port | None = Field(None, description="of the first port; by default the same")

    @property
    def last(self) -> int:
        """The last port of the range."""
        return self.last_port or self.port

    @property
    def first_target_port(self) -> int:
        """Where the first port leads."""
        return self.to_port or self.port

    @model_validator(mode="after")
    def _check_range(self) -> "Forward":
        if self.last < self.port:
            raise ValueError(f"the last port {self.last} is below the first, {self.port}")
        if self.first_target_port + self.last - self.port > 65_535:
            raise ValueError("the range of ports does not fit behind to_port")
        return self


class OneToOne(_Part):
    """An outside address that is wholly one inside host's."""

    outside: HostAddress
    inside: HostAddress


class NatTimeouts(_Part):
    """How long a session lives without a datagram."""

    tcp_established_s: TimeoutSeconds = Field(7_440, description="RFC 5382 REQ-5: 2 hours 4 minutes at least")
    tcp_transitory_s: TimeoutSeconds = Field(240, description="RFC 5382 REQ-5: 4 minutes at least")
    udp_s: TimeoutSeconds = Field(300, description="RFC 4787 REQ-5: 2 minutes at least, 5 recommended")
    icmp_s: TimeoutSeconds = Field(60, description="RFC 5508 REQ-2: 60 seconds at least")
    other_s: TimeoutSeconds = Field(600, description="of other protocols: Linux nf_conntrack_generic_timeout")


class NatRules(_Part):
    """The section `nat` of the configuration; without a rule nothing is translated, and it costs nothing."""

    masquerade: tuple[Masquerade, ...] = Field((), max_length=MAX_MASQUERADES)
    forward: tuple[Forward, ...] = Field((), max_length=MAX_FORWARDS)
    one_to_one: tuple[OneToOne, ...] = Field((), max_length=MAX_ONE_TO_ONE)
    first_port: Port = Field(20_000, description="of those given out on outside addresses")
    last_port: Port = Field(59_999, description="of those given out")
    mapping: Literal["endpoint-independent", "address-and-port-dependent"] = Field(
        "endpoint-independent", description="RFC 4787 section 4.1"
    )
    filtering: Literal["endpoint-independent", "address-dependent", "address-and-port-dependent"] = Field(
        "address-dependent", description="RFC 4787 section 5"
    )
    max_sessions: Annotated[int, Field(ge=16, le=MAX_SESSIONS)] = Field(
        262_144, description="Linux nf_conntrack_max; 128 bytes each in the run directory, 170 more in memory"
    )
    max_sessions_per_host: Annotated[int, Field(ge=1, le=MAX_SESSIONS)] = Field(
        65_536, description="sessions of one inside host"
    )
    timeouts: NatTimeouts = NatTimeouts()

    @property
    def in_use(self) -> bool:
        """Tell whether there is any rule."""
        return bool(self.masquerade or self.forward or self.one_to_one)

    @model_validator(mode="after")
    def _check(self) -> "NatRules":
        if self.last_port < self.first_port:
            raise ValueError(f"last_port {self.last_port} is below first_port {self.first_port}")
        if self.mapping != "endpoint-independent" and self.filtering != "address-and-port-dependent":
            raise ValueError(f"mapping {self.mapping} needs filtering address-and-port-dependent")
        _refuse_twice("masquerade", [rule.interface for rule in self.masquerade])
        _refuse_twice("one_to_one, outside", [rule.outside for rule in self.one_to_one])
        _refuse_twice("one_to_one, inside", [rule.inside for rule in self.one_to_one])
        _refuse_overlap(self.forward)
        return self


def _refuse_twice(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: {name} is there twice")
        seen.add(name)


def _refuse_overlap(rules: tuple[Forward, ...]) -> None:
    for number, rule in enumerate(rules):
        for other in rules[:number]:
            same = (rule.protocol, rule.address) == (other.protocol, other.address)
            if same and rule.port <= other.last and other.port <= rule.last:
                raise ValueError(f"forward: {rule.protocol} {rule.address} port {rule.port} is forwarded twice")
