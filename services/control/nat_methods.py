"""The methods `nat.*` of control's RPC: rules are control's own, sessions the forwarder's."""

import errno
import os
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError, model_validator

from services.common.bus import RpcRefusedError
from services.common.errors import HopwireError
from services.common.messages import RpcError
from services.common.nat_rules import Forward, Masquerade, OneToOne
from services.common.wire.ipv4 import address_text
from services.control.nat_store import NatStore, Rule, key_of, rules_of, section_of
from services.control.neigh_methods import Ask
from services.control.rib import Rib
from services.control.rpc_params import Address, Device, NoParams, Params, checked

_ANSWER: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


class NatSpec(Params):
    """A rule as a user writes it: `masquerade DEV`, `tcp ADDRESS port …`, `one-to-one ADDRESS`."""

    masquerade: Device | None = None
    inside: Device | None = None
    address: Address | None = None
    tcp: Address | None = None
    udp: Address | None = None
    one_to_one: Address | None = None
    port: int | None = None
    last_port: int | None = None
    to: Address | None = None
    to_port: int | None = None

    @model_validator(mode="after")
    def _is_one_rule(self) -> "NatSpec":
        kinds = [name for name in ("masquerade", "tcp", "udp", "one_to_one") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError("give one of masquerade, tcp, udp, one-to-one")
        if kinds[0] in ("tcp", "udp") and self.port is None:
            raise ValueError("port: missing")
        return self

    def rule(self, *, to_be_added: bool) -> Rule:
        """Return the rule; of one that is to be removed only what names it counts.

        :raises ValueError: it cannot be; in words.
        """
        target = str(self.to) if self.to is not None else None
        if target is None and self.masquerade is None:
            if to_be_added:
                raise ValueError("to: missing")
            target = "192.0.2.1"  # RFC 5737: stands for any
        if self.masquerade is not None:
            inside = (self.inside,) if self.inside else ()
            addresses = (str(self.address),) if self.address else ()
            return Masquerade(interface=self.masquerade, inside=inside, addresses=addresses)
        if self.one_to_one is not None:
            return OneToOne(outside=str(self.one_to_one), inside=str(target))
        protocol: Literal["tcp", "udp"] = "tcp" if self.tcp is not None else "udp"
        return Forward(
            protocol=protocol,
            address=str(self.tcp or self.udp),
            port=self.port or 0,
            last_port=self.last_port,
            to=str(target),
            to_port=self.to_port,
        )


class SessionsParams(Params):
    """Where to go on in the list of sessions."""

    first: int = 0


class NatMethods:
    """Answers `nat.*`."""

    def __init__(self, rib: Rib, store: NatStore, ask: Ask) -> None:
        self._rib = rib
        self._store = store
        self._ask = ask

    def add(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add a rule where there is none of this name."""
        rule = self._rule(params, to_be_added=True)
        if self._store.find(key_of(rule)) is not None:
            raise _refusal(errno.EEXIST, f"{' '.join(key_of(rule))}; remove it first with nat del")
        self._check_target(rule)
        try:
            self._store.add(rule)
        except ValueError as error:
            raise _refusal(errno.EINVAL, str(error)) from error
        except HopwireError as error:
            raise RpcRefusedError(RpcError(code="refused", message=error.message)) from error
        return {}

    def delete(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove a rule; its sessions go on until they end or are flushed."""
        key = key_of(self._rule(params, to_be_added=False))
        if self._store.is_configured(key):
            raise _refusal(errno.EPERM, f"{' '.join(key)} is in the configuration; change it there")
        if self._store.find(key) is None:
            raise _refusal(errno.ENOENT, " ".join(key))
        try:
            self._store.remove(key)
        except HopwireError as error:
            raise RpcRefusedError(RpcError(code="refused", message=error.message)) from error
        return {}

    def show(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the rules, what the forwarder says of its table, and the first sessions."""
        checked(NoParams, params)
        rules = [
            {"kind": section_of(rule).replace("_", "-"), **rule.model_dump(mode="json", exclude_none=True)}
            | {"configured": self._store.is_configured(key_of(rule))}
            for rule in rules_of(self._store.current)
        ]
        table = self._ask("forwarder", "nat.status", {}, _ANSWER)
        for each in table["ports"]:
            each["address"] = address_text(each["address"])
        return {"rules": rules, "table": table} | self.sessions({})

    def sessions(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return some sessions, and where the next ones begin; 0: there are no more."""
        first = checked(SessionsParams, params).first
        told = self._ask("forwarder", "nat.sessions", {"first": first}, _ANSWER)
        for session in told["sessions"]:
            for name in ("original", "reply"):
                source, sport, destination, dport = session[name]
                session[name] = {
                    "src": address_text(source),
                    "sport": sport,
                    "dst": address_text(destination),
                    "dport": dport,
                }
        return told

    def flush(self, params: dict[str, Any]) -> dict[str, Any]:
        """End all sessions."""
        checked(NoParams, params)
        return self._ask("forwarder", "nat.flush", {}, _ANSWER)

    def _rule(self, params: dict[str, Any], *, to_be_added: bool) -> Rule:
        spec = checked(NatSpec, params)
        try:
            return spec.rule(to_be_added=to_be_added)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
            text = f"{place.replace('_', '-')}: {message}" if place else message
            raise RpcRefusedError(RpcError(code="usage", message=text)) from error
        except ValueError as error:
            raise RpcRefusedError(RpcError(code="usage", message=str(error))) from error

    def _check_target(self, rule: Rule) -> None:
        """Refuse what would lead to the router itself, whose kernel sees only what was not translated."""
        target = rule.to if isinstance(rule, Forward) else rule.inside if isinstance(rule, OneToOne) else None
        own = [address_text(entry.address) for interface in self._rib.interfaces for entry in interface.addresses]
        if isinstance(target, str) and target in own:
            raise _refusal(errno.EINVAL, f"{target} is an address of the router itself")


def _refusal(number: int, details: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code="refused", message=f"{os.strerror(number)}: {details}"))
