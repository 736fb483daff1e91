"""What would become of a datagram, in sentences: because of what, by which standard, and what would change it. Pure."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from services.common.counters import DROPS, NAT_REFUSALS, Counter
from services.common.parameters import InterfacePolicy
from services.common.wire import ipv4
from services.common.wire.ipv4 import address_text


class Datagram(NamedTuple):
    """What is asked about."""

    source: int
    destination: int
    protocol: str
    source_port: int | None
    port: int | None
    size: int
    """Bytes of IPv4."""
    ttl: int


class Hop(NamedTuple):
    """A next hop of a route."""

    dev: str
    gateway: int
    """0: the destination itself."""
    silent: bool


class Endpoints(NamedTuple):
    """Whom a datagram is from and to."""

    source: int
    source_port: int
    destination: int
    port: int


class Facts(NamedTuple):
    """What the forwarder says, with the names that control knows."""

    verdict: Counter
    verdict_df: Counter
    """With the flag "don't fragment"."""
    iif: str | None
    policy: InterfacePolicy | None
    """Of the interface that it comes in by."""
    kind: str
    prefix: str | None
    hops: list[Hop]
    back_kind: str
    back_prefix: str | None
    back_hops: list[Hop]
    dev: str | None
    next_hop: int | None
    mac: str | None
    neighbour_state: str | None
    mtu: int | None
    link_mtu: int | None
    leaving: Endpoints | None = None
    """With which it leaves, of a datagram that does."""


@dataclass
class Explanation:
    """Sentences, and commands of control-cli that would change what they say."""

    sentences: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


_MARTIANS: Final = (
    (0x0000_0000, 8, '0.0.0.0/8 is "this network", no address of a host (RFC 1122 3.2.1.3)', True),
    (0x7F00_0000, 8, "127.0.0.0/8 is loopback, and never on a wire (RFC 1122 3.2.1.3)", False),
    (0xE000_0000, 4, "224.0.0.0/4 is multicast, which is no source (RFC 1112 7.2)", False),
    (0xFFFF_FFFF, 32, "255.255.255.255 is the limited broadcast, which is no source (RFC 919 7)", False),
    (0xF000_0000, 4, "240.0.0.0/4 is reserved (RFC 1112 4, RFC 6890)", True),
)
"""Network, length, the rule, and whether Linux forwards it."""


def explain(datagram: Datagram, facts: Facts) -> Explanation:
    """Return what there is to say, the verdict last."""
    told = Explanation([_introduction(datagram, facts)])
    _EXPLAIN.get(facts.verdict, _other)(datagram, facts, told)
    return told


def _introduction(datagram: Datagram, facts: Facts) -> str:
    ports = f" from port {datagram.source_port}" if datagram.source_port is not None else ""
    ports += f" to port {datagram.port}" if datagram.port is not None else ""
    what = f"{datagram.protocol}{ports}, {datagram.size} bytes, TTL {datagram.ttl}"
    where = f"comes in by {facts.iif}" if facts.iif else "comes in by an interface that is not known"
    return f"A datagram from {address_text(datagram.source)} to {address_text(datagram.destination)} ({what}) {where}."


def _cli(*words: str) -> str:
    return " ".join(("control-cli", *words))


# --- what is let in --------------------------------------------------------------------------------------------------


def _martian(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    is_source = facts.verdict is Counter.DROP_MARTIAN_SOURCE
    address = datagram.source if is_source else datagram.destination
    what = "source" if is_source else "destination"
    rule = next(
        (
            (text, as_linux)
            for network, length, text, as_linux in _MARTIANS
            if (address ^ network) & ipv4.prefix_mask(length) == 0 and (is_source or "no source" not in text)
        ),
        None,
    )
    if rule is None:
        own = "the router's own address" if facts.back_kind == "local" else "the broadcast address of a network here"
        told.sentences.append(
            f"Its {what} is {own}, which no other host may use as a source (RFC 1812 5.3.7): dropped, without ICMP."
        )
        return
    told.sentences.append(f"Its {what} is a martian: {rule[0]}. It is dropped, without ICMP (RFC 1812 5.3.7).")
    if rule[1] and facts.iif and address != 0:
        told.commands.append(_cli("link set", facts.iif, "martians linux"))


def _link_local(_datagram: Datagram, facts: Facts, told: Explanation) -> None:
    told.sentences.append("169.254.0.0/16 is for one link only, and never forwarded (RFC 3927 2.7): dropped.")
    if facts.iif:
        told.commands.append(_cli("link set", facts.iif, "martians linux"))


def _reverse_path(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    check = facts.policy.reverse_path if facts.policy is not None else "on"
    source = address_text(datagram.source)
    if facts.back_hops:
        devices = ", ".join(sorted({hop.dev for hop in facts.back_hops}))
        back = f"the way back to {source} ({facts.back_prefix}) leads by {devices}"
    else:
        back = f"there is no way back to {source}"
    told.sentences.append(
        f"The reverse-path check of {facts.iif} is {check}, and {back}: dropped, without ICMP (RFC 3704)."
    )
    if facts.back_hops:
        told.commands.append(_cli("link set", facts.iif or "NAME", "reverse-path loose"))
    told.commands.append(_cli("link set", facts.iif or "NAME", "reverse-path off"))
    told.commands.append(_cli("route add", f"{source}/32", "dev", facts.iif or "NAME"))


def _unknown_interface(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    if facts.iif is None:
        source = address_text(datagram.source)
        told.sentences.append(f"No interface leads to {source}: name the one it comes in by with iif.")
        return
    told.sentences.append(f"{facts.iif} is down: what comes in there is dropped.")
    told.commands.append(_cli("link set", facts.iif, "up"))


# --- what stays here -------------------------------------------------------------------------------------------------


def _local(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    whose = f"{address_text(datagram.destination)} is an address of the router itself"
    if facts.verdict is Counter.ECHO_ANSWERED:
        told.sentences.append(f"{whose}: an echo request is answered by hopwire (RFC 1812 4.3.3.6).")
    else:
        told.sentences.append(f"{whose}: hopwire leaves it to the kernel, whose sockets and firewall decide.")


def _group(datagram: Datagram, _facts: Facts, told: Explanation) -> None:
    kind = "a multicast group" if datagram.destination >> 28 == 0xE else "a broadcast address"
    told.sentences.append(
        f"{address_text(datagram.destination)} is {kind}: never forwarded, left to the kernel (RFC 1812 5.3.5)."
    )


def _directed_broadcast(_datagram: Datagram, facts: Facts, told: Explanation) -> None:
    told.sentences.append(
        f"It is the broadcast address of {facts.prefix}, a network of the router's: dropped (RFC 2644)."
    )
    dev = facts.hops[0].dev if facts.hops else facts.dev
    if dev and dev != facts.iif:
        told.commands.append(_cli("link set", dev, "directed-broadcast on"))


# --- what goes no further --------------------------------------------------------------------------------------------


def _ttl(datagram: Datagram, _facts: Facts, told: Explanation) -> None:
    told.sentences.append(
        f"With a TTL of {datagram.ttl} it may not be forwarded: dropped, and its sender gets ICMP 11/0, time exceeded "
        "(RFC 1812 5.3.1)."
    )


def _no_route(datagram: Datagram, _facts: Facts, told: Explanation) -> None:
    destination = address_text(datagram.destination)
    told.sentences.append(
        f"No route matches {destination}: dropped, and its sender gets ICMP 3/0, network unreachable "
        "(RFC 1812 5.2.7.1)."
    )
    told.commands.append(_cli("route add", f"{destination}/32", "via GATEWAY"))
    told.commands.append(_cli("route add default via GATEWAY"))


def _refusing_route(_datagram: Datagram, facts: Facts, told: Explanation) -> None:
    prefix = facts.prefix or "default"
    if facts.kind == "unicast":
        told.sentences.append(
            f"The route {prefix} matches, but {facts.dev or 'its interface'} is down: dropped, and its sender gets "
            "ICMP 3/1, host unreachable."
        )
        told.commands += [_cli("link set", facts.dev, "up")] if facts.dev else []
        return
    answers = {
        Counter.DROP_BLACKHOLE: "silently",
        Counter.DROP_UNREACHABLE: "and its sender gets ICMP 3/1, host unreachable",
        Counter.DROP_PROHIBITED: "and its sender gets ICMP 3/13, administratively prohibited (RFC 1812 5.2.7.1)",
    }
    told.sentences.append(f"The {facts.kind} route {prefix} matches: dropped, {answers[facts.verdict]}.")
    told.commands.append(_cli("route del", facts.kind, prefix))


# --- what is forwarded -----------------------------------------------------------------------------------------------


def _routed(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    datagram = _translated(datagram, facts, told)
    told.sentences.append(_route_sentence(datagram, facts))
    if facts.verdict is Counter.FRAGMENTED:
        _too_large(datagram, facts, told)
    neighbour = address_text(facts.next_hop or 0)
    if facts.mac:
        state = f" ({facts.neighbour_state})" if facts.neighbour_state else ""
        told.sentences.append(f"The next hop {neighbour} has the MAC {facts.mac}{state}.")
        parts = "its fragments leave" if facts.verdict is Counter.FRAGMENTED else "it leaves"
        told.sentences.append(f"So {parts} by {facts.dev}, with TTL {datagram.ttl - 1}.")
        if facts.verdict is Counter.FORWARDED:
            told.commands.append(_cli("route replace", facts.prefix or "default", "via ANOTHER-GATEWAY"))
        return
    state = f", its state is {facts.neighbour_state}" if facts.neighbour_state else ""
    told.sentences.append(
        f"The MAC of the next hop {neighbour} on {facts.dev} is not known{state}: the datagram waits while ARP asks "
        "for it (RFC 1122 2.3.2.2), and leaves when there is an answer; without one its sender gets ICMP 3/1, host "
        "unreachable (RFC 1812 3.3.2)."
    )
    told.commands.append(_cli("neigh probe", neighbour, "dev", facts.dev or "NAME"))
    told.commands.append(_cli("neigh replace", neighbour, "lladdr MAC dev", facts.dev or "NAME"))


def _translated(datagram: Datagram, facts: Facts, told: Explanation) -> Datagram:
    """Return the datagram as it leaves, and say what address translation makes of it."""
    leaving = facts.leaving
    if leaving is None or (leaving.source, leaving.destination) == (datagram.source, datagram.destination):
        return datagram
    has_ports = datagram.port is not None
    source, destination = (
        address_text(address) + (f" port {port}" if has_ports else "")
        for address, port in ((leaving.source, leaving.source_port), (leaving.destination, leaving.port))
    )
    told.sentences.append(f"Address translation makes it one from {source} to {destination} (RFC 3022).")
    told.commands.append(_cli("nat show"))
    return datagram._replace(
        source=leaving.source,
        destination=leaving.destination,
        source_port=leaving.source_port if has_ports else None,
        port=leaving.port if has_ports else None,
    )


def _not_translated(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    silently = "" if facts.verdict in NAT_REFUSALS else ", without ICMP"
    told.sentences.append(f"Address translation drops it{silently}: {facts.verdict.text}.")
    is_outside = facts.verdict in (Counter.DROP_NAT_FILTERED, Counter.DROP_NAT_NO_SESSION)
    if is_outside and datagram.port is not None:
        destination = address_text(datagram.destination)
        told.commands.append(_cli("nat add", datagram.protocol, destination, f"port {datagram.port} to HOST"))
    told.commands.append(_cli("nat show"))


def _route_sentence(datagram: Datagram, facts: Facts) -> str:
    next_hop = facts.next_hop or 0
    on_link = next_hop == datagram.destination
    way = f"on the link of {facts.dev}" if on_link else f"via {address_text(next_hop)} dev {facts.dev}"
    sentence = f"The route {facts.prefix} matches: {way}"
    others = len(facts.hops) - 1
    if others > 0:
        sentence += f", which its flow has drawn of {others + 1} next hops (RFC 2992); another flow may go elsewhere"
        silent = [address_text(hop.gateway) for hop in facts.hops if hop.silent]
        sentence += f"; {', '.join(silent)} does not answer ARP and is left out" if silent else ""
    return sentence + "."


def _too_large(datagram: Datagram, facts: Facts, told: Explanation) -> None:
    mtu = facts.mtu or ipv4.MINIMUM_MTU
    of_route = facts.link_mtu is not None and mtu < facts.link_mtu
    whose = f"the route {facts.prefix}" if of_route else str(facts.dev)
    part = (mtu - ipv4.HEADER_BYTES) // 8 * 8
    count = -(-(datagram.size - ipv4.HEADER_BYTES) // part)
    told.sentences.append(
        f"Its {datagram.size} bytes are more than the MTU of {whose}, {mtu}: it is cut into {count} fragments "
        f"(RFC 791). With DF set, as TCP does, it is dropped, and its sender gets ICMP 3/4 with the MTU {mtu} "
        "(RFC 1191)."
    )
    if of_route:
        via = f" via {address_text(facts.next_hop or 0)}" if facts.next_hop != datagram.destination else ""
        told.commands.append(_cli(f"route replace {facts.prefix}{via} dev {facts.dev} mtu {facts.link_mtu}"))
    else:
        told.commands.append(_cli("link set", facts.dev or "NAME", f"mtu {datagram.size}"))


def _other(_datagram: Datagram, facts: Facts, told: Explanation) -> None:
    told.sentences.append(f"{facts.verdict.name}: {facts.verdict.text}.")


_EXPLAIN: Final = {
    Counter.DROP_MARTIAN_SOURCE: _martian,
    Counter.DROP_MARTIAN_DESTINATION: _martian,
    Counter.DROP_LINK_LOCAL: _link_local,
    Counter.DROP_REVERSE_PATH: _reverse_path,
    Counter.DROP_UNKNOWN_INTERFACE: _unknown_interface,
    Counter.LOCAL: _local,
    Counter.ECHO_ANSWERED: _local,
    Counter.LOCAL_GROUP: _group,
    Counter.DROP_DIRECTED_BROADCAST: _directed_broadcast,
    Counter.DROP_TTL_EXCEEDED: _ttl,
    Counter.DROP_NO_ROUTE: _no_route,
    Counter.DROP_BLACKHOLE: _refusing_route,
    Counter.DROP_UNREACHABLE: _refusing_route,
    Counter.DROP_PROHIBITED: _refusing_route,
    Counter.FORWARDED: _routed,
    Counter.HANDED: _routed,
    Counter.FRAGMENTED: _routed,
    **dict.fromkeys((counter for counter in DROPS if counter.name.startswith("DROP_NAT_")), _not_translated),
}
