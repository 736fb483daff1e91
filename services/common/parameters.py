"""What can be tuned: every parameter with its unit, default and source. Control hands them to the services."""

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


def _off(value: Any) -> Any:
    return "off" if value is False else value  # what YAML 1.1 makes of a bare `off`


ReversePath = Annotated[Literal["off", "loose", "strict"], BeforeValidator(_off)]
Martians = Literal["strict", "linux"]


class _Parameters(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PermanentNeighbour(_Parameters):
    """A neighbour whose MAC the operator gives: what `ip neigh add ... nud permanent` is to the kernel."""

    interface: Annotated[str, Field(min_length=1, max_length=15, description="its name: IFNAMSIZ - 1 of linux/if.h")]
    address: Annotated[str, AfterValidator(lambda text: str(IPv4Address(text)))]
    mac: Annotated[str, Field(pattern=r"^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$", description="no group's")]


class ArpParameters(_Parameters):
    """The ARP resolver's timers and bounds."""

    base_reachable_time_s: Seconds = Field(30.0, description="RFC 4861 section 10, REACHABLE_TIME")
    delay_probe_time_s: Seconds = Field(5.0, description="RFC 4861 section 10, DELAY_FIRST_PROBE_TIME")
    retransmit_time_s: Seconds = Field(1.0, description="RFC 1122 section 2.3.2.1: at most one request a second")
    multicast_solicit: Count = Field(3, description="requests before a next hop has failed: Linux mcast_solicit")
    unicast_solicit: Count = Field(3, description="unicast probes of a stale neighbour: Linux ucast_solicit")
    requests_per_second: Count = Field(
        1000,
        description="requests sent on one interface, and as many at once: RFC 1122 section 2.3.2.1 asks for a limit",
    )
    failed_time_s: Seconds = Field(3.0, description="how long a failure is remembered")
    stale_time_s: Seconds = Field(60.0, description="unused stale entries go after this: Linux gc_stale_time")
    locktime_s: Seconds = Field(1.0, description="a changed MAC is not changed again within this: Linux locktime")
    max_neighbours: Count = Field(1024, description="entries in the table: Linux gc_thresh3")
    max_waiting_frames: Count = Field(128, description="frames waiting for one neighbour: Linux unres_qlen (101)")
    max_waiting_bytes: Count = Field(212_992, description="bytes waiting for one neighbour: Linux unres_qlen_bytes")
    max_total_waiting_bytes: Annotated[int, Field(ge=1, le=2**30)] = Field(
        8 * 2**20, description="bytes waiting in all"
    )
    permanent_neighbours: tuple[PermanentNeighbour, ...] = Field((), description="entries that ARP never changes")


class IcmpParameters(_Parameters):
    """How many ICMP errors the router sends (RFC 1812 section 4.3.2.8)."""

    errors_per_second: Count = Field(1000, description="in all: Linux icmp_msgs_per_sec")
    errors_burst: Count = Field(50, description="in all: Linux icmp_msgs_burst")
    per_destination_per_second: Count = Field(10, description="to one host; Linux icmp_ratelimit gives 1")
    per_destination_burst: Count = Field(6, description="to one host: XRLIM_BURST_FACTOR of Linux's inet_peer")


class InterfacePolicy(_Parameters):
    """What the router does on one interface, where the RFCs leave it to the operator."""

    reverse_path: ReversePath = Field(
        "off", description="RFC 3704: drop what comes from a source that has no route back, or another one"
    )
    martians: Martians = Field("strict", description="linux: forward 0/8, 169.254/16 and class E as Linux does")
    directed_broadcast: bool = Field(False, description="RFC 2644: forward broadcasts to this interface's network")
    redirects: bool = Field(True, description="RFC 1812 section 5.2.7.2: send them out of this interface")
    proxy_arp: bool = Field(False, description="RFC 1027: answer here for hosts behind other interfaces")


class Parameters(_Parameters):
    """All parameters of the services."""

    arp: ArpParameters = ArpParameters()
    icmp: IcmpParameters = IcmpParameters()
