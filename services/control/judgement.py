"""What hopwire does with a route of the kernel: forward, deliver, refuse, or leave it out because it cannot be used."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from services.control.kernel_types import Link, RouteInfo, RouteType
from services.control.path_table import PathContent

_UNREACHABLE: Final = PathContent("unreachable")

_WITHOUT_NEXT_HOP: Final[dict[RouteType, PathContent]] = {
    RouteType.LOCAL: PathContent("local"),
    RouteType.ANYCAST: PathContent("local"),
    RouteType.MULTICAST: PathContent("multicast"),
    RouteType.BLACKHOLE: PathContent("blackhole"),
    RouteType.UNREACHABLE: _UNREACHABLE,
    RouteType.PROHIBIT: PathContent("prohibit"),
}


class Verdict(NamedTuple):
    """What becomes of the destinations of a route."""

    content: PathContent | None
    """None: the route cannot be used now, and the next one decides."""
    deviation: str = ""
    """In which way the kernel would do otherwise; for the user's eyes."""


def judge(info: RouteInfo, links: Mapping[int, Link]) -> Verdict:
    """Judge a route by what it says and by the interfaces that its next hops lead to.

    A next hop that is dead, or whose interface is down or without carrier, is left out (RFC 1812 section 5.3.12).
    Where all the living ones are of a kind that hopwire cannot send to, the destination is unreachable: its sender
    is told, which is more than silence or a longer way that the user has not chosen.
    """
    if info.tos:
        return Verdict(None, "it holds for one type of service only (left out)")
    if info.type in _WITHOUT_NEXT_HOP:
        return Verdict(_WITHOUT_NEXT_HOP[info.type])
    if info.type is RouteType.BROADCAST:
        return Verdict(_broadcast(info, links))
    if info.type is not RouteType.UNICAST:
        return Verdict(_UNREACHABLE, f"its type is {info.type.name.lower()} (answered as unreachable)")
    usable = []
    obstacle = ""
    for hop in info.next_hops:
        link = links.get(hop.interface)
        if link is None or not link.is_up or hop.is_dead:
            continue
        hop_obstacle = hop.obstacle or _obstacle(link, links)
        if hop_obstacle:
            obstacle = hop_obstacle
        else:
            usable.append((hop.interface, hop.gateway, hop.weight))
    if usable:
        deviation = f"{obstacle} (its other next hops are used)" if obstacle else ""
        return Verdict(PathContent("unicast", tuple(usable), info.mtu), deviation)
    if obstacle:
        return Verdict(_UNREACHABLE, f"{obstacle} (answered as unreachable)")
    return Verdict(None)


def _broadcast(info: RouteInfo, links: Mapping[int, Link]) -> PathContent:
    """Return the content that names the interface of the network, where it is one of the router's."""
    routed = [hop.interface for hop in info.next_hops if (link := links.get(hop.interface)) and link.is_routed]
    return PathContent("broadcast", tuple((interface, 0, 1) for interface in routed[:1]))


def _obstacle(link: Link, links: Mapping[int, Link]) -> str:
    if link.is_routed:
        return ""
    if link.master:
        master = links.get(link.master)
        return f"it leaves by {link.name}, a port of {master.name if master else 'another interface'}"
    return f"it leaves by {link.name}, which is no Ethernet interface"
