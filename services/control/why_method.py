"""The method `why` of control's RPC: the forwarder's verdict on a datagram, in sentences, with what would change it."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, TypeAdapter

from services.common.bus import RpcRefusedError
from services.common.counters import Counter
from services.common.messages import Address, InterfaceIndex, Mac, PrefixLength, RpcError
from services.common.wire import ipv4
from services.common.wire.ethernet import mac_text
from services.control.neigh_methods import NEIGHBOURS, Ask
from services.control.rib import Rib
from services.control.rpc_params import WhyQuestion, checked
from services.control.why import Datagram, Endpoints, Facts, Hop, explain

_PROTOCOLS: Final = {"icmp": ipv4.PROTOCOL_ICMP, "tcp": ipv4.PROTOCOL_TCP, "udp": ipv4.PROTOCOL_UDP}
Port = Annotated[int, Field(ge=0, le=0xFFFF)]
_SOURCE_PORT: Final = 49_152
"""The first of those that a client takes (RFC 6335 section 6)."""


class _Hop(BaseModel):
    interface: InterfaceIndex
    gateway: Address
    weight: int
    silent: bool


class _Chosen(BaseModel):
    interface: InterfaceIndex
    next_hop: Address


class _Leaving(BaseModel):
    src: Address
    sport: Port
    dst: Address
    dport: Port


class _ForwarderWhy(BaseModel):
    """What the forwarder answers to `why`."""

    verdict: str
    verdict_df: str
    interface: InterfaceIndex
    leaving: _Leaving
    length: int
    kind: str
    prefix: Address | None
    prefix_length: PrefixLength | None
    next_hops: list[_Hop]
    back_kind: str
    back_prefix: Address | None
    back_prefix_length: PrefixLength | None
    back_next_hops: list[_Hop]
    chosen: _Chosen | None
    mac: Mac | None
    mtu: int | None


_WHY: TypeAdapter[_ForwarderWhy] = TypeAdapter(_ForwarderWhy)


class WhyMethod:
    """Answers `why`."""

    def __init__(self, rib: Rib, ask: Ask) -> None:
        self._rib = rib
        self._ask = ask

    def __call__(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return verdict, sentences, commands, and the facts that they rest on."""
        wanted = checked(WhyQuestion, params)
        if wanted.flow.protocol == "tcp" and wanted.size < 40:
            raise RpcRefusedError(RpcError(code="usage", message="size: a TCP datagram has 40 bytes at least"))
        has_ports = wanted.flow.protocol != "icmp"
        question = {
            "src": int(wanted.src),
            "dst": int(wanted.dst),
            "interface": self._index(wanted.iif) if wanted.iif is not None else 0,
            "protocol": _PROTOCOLS[wanted.flow.protocol],
            "sport": _SOURCE_PORT if has_ports else 0,
            "dport": wanted.flow.port or 0,
            "size": wanted.size,
            "ttl": wanted.ttl,
        }
        answer = self._ask("forwarder", "why", question, _WHY)
        datagram = Datagram(
            source=int(wanted.src),
            destination=int(wanted.dst),
            protocol=wanted.flow.protocol,
            source_port=_SOURCE_PORT if has_ports else None,
            port=wanted.flow.port if has_ports else None,
            size=wanted.size,
            ttl=wanted.ttl,
        )
        facts = self._facts(answer)
        explanation = explain(datagram, facts)
        return {
            "verdict": facts.verdict.name,
            "sentences": explanation.sentences,
            "commands": explanation.commands,
            "iif": facts.iif,
            "prefix": facts.prefix,
            "dev": facts.dev,
            "next_hop": ipv4.address_text(facts.next_hop) if facts.next_hop is not None else None,
            "lladdr": facts.mac,
            "neighbour": facts.neighbour_state,
            "mtu": facts.mtu,
        }

    def _facts(self, answer: _ForwarderWhy) -> Facts:
        chosen = answer.chosen
        in_link = self._rib.links.get(answer.interface)
        out_link = self._rib.links.get(chosen.interface) if chosen is not None else None
        return Facts(
            verdict=Counter[answer.verdict],
            verdict_df=Counter[answer.verdict_df],
            iif=in_link.name if in_link is not None else None,
            policy=self._rib.policy(in_link) if in_link is not None else None,
            kind=answer.kind,
            prefix=_prefix(answer.prefix, answer.prefix_length),
            hops=[self._hop(hop) for hop in answer.next_hops],
            back_kind=answer.back_kind,
            back_prefix=_prefix(answer.back_prefix, answer.back_prefix_length),
            back_hops=[self._hop(hop) for hop in answer.back_next_hops],
            dev=out_link.name if out_link is not None else None,
            next_hop=chosen.next_hop if chosen is not None else None,
            mac=mac_text(answer.mac) if answer.mac else None,
            neighbour_state=self._state(chosen.interface, chosen.next_hop) if chosen is not None else None,
            mtu=answer.mtu,
            link_mtu=out_link.mtu if out_link is not None else None,
            leaving=Endpoints(*answer.leaving.model_dump().values()),
        )

    def _hop(self, hop: _Hop) -> Hop:
        return Hop(self._rib.interface_name(hop.interface), hop.gateway, silent=hop.silent)

    def _state(self, interface: int, address: int) -> str | None:
        """Return what arp says of a neighbour; None where it does not know it, or is away."""
        try:
            known = self._ask("arp", "neigh.show", {}, NEIGHBOURS)
        except RpcRefusedError:
            return None
        return next((one.state for one in known if (one.interface, one.dst) == (interface, address)), None)

    def _index(self, name: str) -> int:
        for link in self._rib.links.values():
            if link.name == name and link.is_routed:
                return link.index
        existing = ", ".join(sorted(link.name for link in self._rib.links.values() if link.is_routed))
        raise RpcRefusedError(RpcError(code="refused", message=f"No such device: {name}; there are: {existing}"))


def _prefix(prefix: int | None, length: int | None) -> str | None:
    return ipv4.prefix_text(prefix, length) if prefix is not None and length is not None else None
