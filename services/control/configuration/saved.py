"""What is in force, as a configuration file that brings it about again. Pure."""

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, Final

import yaml

from services.common.parameters import InterfacePolicy, Parameters
from services.control.config import Config
from services.control.configuration.running import link_state, routes_of
from services.control.configuration.state import route_key
from services.control.kernel_types import RTPROT_HOPWIRE, Link
from services.control.names import RTPROT_CONFIGURATION
from services.control.policies import EVERY_INTERFACE
from services.control.rib import Rib
from services.control.rpc_params import RouteSpec

_FOREVER_S: Final = 0xFFFF_FFFF  # INFINITY_LIFE_TIME of Linux: no address of DHCP
_LOOPBACK: Final = IPv4Network("127.0.0.0/8")
_HEADER: Final = "# What was in force when `control-cli config save` wrote this.\n"


def in_force(config: Config, rib: Rib, parameters: Parameters) -> Config:
    """Return a configuration with the parameters and policies that are in force now."""
    of_all = config.interfaces.get(EVERY_INTERFACE, InterfacePolicy())
    changed = {
        link.name: rib.policy(link)
        for link in rib.links.values()
        if link.is_routed and rib.policy(link) != config.interfaces.get(link.name, of_all)
    }
    return config.model_copy(update={"parameters": parameters, "interfaces": {**config.interfaces, **changed}})


def saved_text(config: Config, rib: Rib) -> str:
    """Return the file that says all: the settings in force, and what of the kernel's state the file can say.

    Routes are those of the configuration and of control-cli; whoever installed the others installs them again.
    """
    links = sorted(rib.links.values(), key=lambda link: link.index)
    plain = config.model_dump(mode="json", exclude_defaults=True, include={"log_level", "metrics_listen", "rpc"})
    sections: dict[str, Any] = {
        **plain,
        "interfaces": _policies(config.interfaces),
        "links": {link.name: link_state(link).model_dump() for link in links if link.is_routed},
        "addresses": {link.name: own for link in links if (own := _addresses(rib, link))},
        "routes": _routes(routes_of(rib, RTPROT_CONFIGURATION) + routes_of(rib, RTPROT_HOPWIRE)),
        "parameters": config.parameters.model_dump(mode="json", exclude_defaults=True),
        "nat": config.nat.model_dump(mode="json", exclude_defaults=True),
    }
    said = {key: value for key, value in sections.items() if value}
    body: str = yaml.safe_dump(said, sort_keys=False, default_flow_style=None, width=120)
    return _HEADER + body


def _policies(policies: Mapping[str, InterfacePolicy]) -> dict[str, Any]:
    """Return what each policy says beyond that of all interfaces, or beyond the defaults."""
    of_all = policies.get(EVERY_INTERFACE, InterfacePolicy())
    said = {}
    for name, policy in policies.items():
        base = InterfacePolicy() if name == EVERY_INTERFACE else of_all
        said[name] = {key: value for key, value in policy.model_dump().items() if value != getattr(base, key)}
    return {name: values for name, values in said.items() if values}


def _addresses(rib: Rib, link: Link) -> list[str]:
    lasting = [one for one in rib.addresses.get(link.index, []) if one.valid_s == _FOREVER_S]
    texts = [str(IPv4Network((one.address, 32)).network_address) + f"/{one.prefix_length}" for one in lasting]
    return [text for text in texts if IPv4Network(text, strict=False).network_address not in _LOOPBACK]


def _routes(routes: Iterable[RouteSpec]) -> list[dict[str, Any]]:
    once = {route_key(route): route for route in reversed(list(routes))}
    return [
        {
            key: value
            for key, value in route.model_dump(mode="json", exclude={"proto"}, exclude_none=True).items()
            if value and (key, value) != ("type", "unicast")
        }
        for _, route in sorted(once.items(), key=lambda item: item[0])
    ]
