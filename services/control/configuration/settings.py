"""The parts of the configuration file that the kernel keeps, and control's endpoint for other machines."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from services.control.rpc_params import InterfaceAddress, RouteDescription

_MAX_INTERFACE_NAME_BYTES: Final = 15  # IFNAMSIZ of linux/if.h is 16 with its closing zero
_MIN_MTU: Final = 68  # RFC 791; IPV4_MIN_MTU of Linux, below which an interface has no IPv4
_TCP = re.compile(r"tcp://(\*|\[[0-9a-fA-F:]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})", re.ASCII)
_PUBLIC_KEY: Final = r"^[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}$"
"""32 bytes in Z85 (rfc.zeromq.org/spec/32)."""


def _interface_name(name: str) -> str:
    if not 1 <= len(name.encode()) <= _MAX_INTERFACE_NAME_BYTES:
        raise ValueError(f"{name!r} is no interface's name: it has 1 to {_MAX_INTERFACE_NAME_BYTES} bytes")
    return name


def _listen(text: str) -> str:
    matched = _TCP.fullmatch(text)
    if matched is None or not 1 <= int(matched[2]) <= 65_535:
        raise ValueError(f"{text!r} is not an endpoint such as tcp://192.0.2.1:7010, or tcp://*:7010 for all addresses")
    return text


def _absolute(text: str) -> str:
    if not PurePosixPath(text).is_absolute():
        raise ValueError(f"{text!r} is not a file's path from the root: /etc/hopwire/control.key")
    return text


def _public_key(text: str) -> str:
    if not re.match(_PUBLIC_KEY, text):
        raise ValueError(f"{text!r} is not a public key: the 40 characters that control-cli keygen shows")
    return text


InterfaceName = Annotated[str, AfterValidator(_interface_name)]


PublicKey = Annotated[str, AfterValidator(_public_key), WithJsonSchema({"type": "string", "pattern": _PUBLIC_KEY})]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LinkSettings(_Settings):
    """What an interface shall be like; what is left out stays as it is."""

    up: bool | None = Field(None, description="administratively up, or down")
    mtu: int | None = Field(None, ge=_MIN_MTU, le=0x7FFF_FFFF, description="bytes of IP")


class ConfiguredRoute(RouteDescription):
    """A route of table main."""

    @model_validator(mode="after")
    def _leads_somewhere(self) -> "ConfiguredRoute":
        if self.type in (None, "unicast") and self.via is None and self.dev is None and not self.nexthops:
            raise ValueError("a route needs via, dev or nexthops, unless it is a blackhole, unreachable or prohibit")
        devices = [hop.dev for hop in self.nexthops] or [self.dev]
        if self.onlink and None in devices:
            raise ValueError("onlink needs dev: it is what tells where the gateway is")
        return self


class RpcSettings(_Settings):
    """control's RPC for other machines: encrypted, and only for clients whose key is known (CurveZMQ)."""

    listen: Annotated[str, AfterValidator(_listen)] = Field(description="an endpoint such as tcp://192.0.2.1:7010")
    key_file: Annotated[str, AfterValidator(_absolute)] = Field(
        description="the router's own key, as control-cli keygen writes it"
    )
    clients: tuple[PublicKey, ...] = Field(
        min_length=1, max_length=1024, description="public keys of those who may ask and change everything"
    )


def _each_once(addresses: Mapping[str, tuple[Any, ...]]) -> Mapping[str, tuple[Any, ...]]:
    for name, own in addresses.items():
        for address in own:
            if own.count(address) > 1:
                raise ValueError(f"{address} of {name} is there twice; remove one of them")
            if address.ip.is_multicast or address.ip.is_unspecified:
                raise ValueError(f"{address} of {name} is no host's address")
    return addresses


def _each_destination_once(routes: tuple[ConfiguredRoute, ...]) -> tuple[ConfiguredRoute, ...]:
    seen: dict[tuple[Any, int], int] = {}
    for place, route in enumerate(routes):
        key = (route.dst, route.metric or 0)
        if key in seen:
            raise ValueError(
                f"{route.dst} metric {key[1]} is there twice, as routes.{seen[key]} and routes.{place}; for several "
                "ways write nexthops"
            )
        seen[key] = place
    return routes


Links = Mapping[InterfaceName, LinkSettings]
Addresses = Annotated[Mapping[InterfaceName, tuple[InterfaceAddress, ...]], AfterValidator(_each_once)]
Routes = Annotated[tuple[ConfiguredRoute, ...], AfterValidator(_each_destination_once)]
