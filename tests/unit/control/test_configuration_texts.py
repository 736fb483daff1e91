"""A configuration in words: what differs in the settings, and the file that says what is in force."""

from rib_builders import address, came, dump, hop, info, link

from services.common.parameters import Parameters
from services.control.config import parse
from services.control.configuration.difference import setting_lines
from services.control.configuration.running import routes_of, running
from services.control.configuration.saved import in_force, saved_text
from services.control.configuration.state import desired
from services.control.kernel_types import RouteType
from services.control.policies import InterfacePolicies
from services.control.rib import Rib

WHOLE = """
interfaces:
  "*": {redirects: false}
  eth1: {redirects: true, martians: linux}
  eth2: {proxy_arp: true}
"""
SAVED = """# What was in force when `control-cli config save` wrote this.
interfaces:
  '*': {redirects: false}
  eth1: {martians: linux, redirects: true}
  eth2: {proxy_arp: true}
links:
  eth1: {up: true, mtu: 1500}
  eth2: {up: false, mtu: 1500}
addresses:
  eth1: [10.1.0.1/24, 10.1.0.2/24]
  lo: [10.255.0.1/32]
routes:
- {dst: 10.2.0.0/16, via: 10.1.0.9, dev: eth1}
- dst: 10.3.0.0/16
  metric: 7
  mtu: 1300
  nexthops:
  - {via: 10.1.0.8, dev: eth1, weight: 3}
  - {via: 10.1.0.9, dev: eth1, weight: 1}
- {dst: 10.4.0.0/16, type: blackhole}
parameters:
  icmp: {errors_burst: 9}
"""


def mirrored(policies: InterfacePolicies | None = None) -> Rib:
    rib = Rib(policies)
    short_lived = address(1, "10.1.0.3/24")._replace(valid_s=3600)
    by = {"hopwire": 200, "hopwire-config": 201, "boot": 3}
    routes = [
        came("10.2.0.0/16", info(hop(1, "10.1.0.9"), protocol=by["hopwire"])),
        came("10.4.0.0/16", info(type=RouteType.BLACKHOLE, protocol=by["hopwire-config"])),
        came(
            "10.3.0.0/16",
            info(hop(1, "10.1.0.8", weight=3), hop(1, "10.1.0.9"), protocol=by["hopwire-config"], metric=7, mtu=1300),
        ),
        came("10.5.0.0/16", info(hop(1, "10.1.0.9"), protocol=by["boot"])),
        came("10.5.0.0/16", info(hop(1, "10.1.0.9"), protocol=by["boot"], tos=16)),
    ]
    lo = link(3, name="lo", link_type=772)
    links = [link(1), link(2, flags=0x1002), lo]
    own = [address(1, "10.1.0.1/24"), address(1, "10.1.0.2/24"), short_lived, address(3, "127.0.0.1/8")]
    rib.adopt(dump(links, routes, addresses=[*own, address(3, "10.255.0.1/32")]))
    return rib


def test_the_file_that_says_what_is_in_force() -> None:
    config = parse(WHOLE + "parameters: {icmp: {errors_burst: 9}}", "r.yaml")
    text = saved_text(config, mirrored())
    assert text == SAVED
    again = parse(text, "saved.yaml")
    assert again.interfaces == config.interfaces
    assert again.parameters == config.parameters
    rib = mirrored()
    present = running(rib, [])
    own = [route.model_copy(update={"proto": 201}) for route in [*present.routes, *routes_of(rib)]]
    assert sorted(map(repr, desired(again).routes)) == sorted(map(repr, own))


def test_what_was_changed_since_is_in_force() -> None:
    config = parse(WHOLE, "r.yaml")
    policies = InterfacePolicies(config.interfaces)
    rib = mirrored(policies)
    assert in_force(config, rib, config.parameters) == config
    policies.change(2, {"martians": "linux"})
    parameters = Parameters.model_validate({"icmp": {"errors_burst": 9}})
    now = in_force(config, rib, parameters)
    assert now.parameters == parameters
    assert now.interfaces["eth2"] == config.interfaces["eth2"].model_copy(update={"martians": "linux"})
    assert setting_lines(now, config) == [
        "- interfaces.eth2.martians linux",
        "+ interfaces.eth2.martians strict",
        "- icmp.errors_burst 9",
        "+ icmp.errors_burst 50",
    ]


def test_settings_that_come_and_go() -> None:
    before = parse("log_level: debug", "r.yaml")
    after = parse(
        "interfaces: {eth0: {proxy_arp: true}}\nparameters: {arp: {permanent_neighbours: "
        "[{interface: eth0, address: 10.0.0.9, mac: '02:00:00:00:00:09'}]}}",
        "r.yaml",
    )
    assert setting_lines(before, after) == [
        "- log_level debug",
        "+ log_level info",
        "+ interfaces.eth0.reverse_path off",
        "+ interfaces.eth0.martians strict",
        "+ interfaces.eth0.directed_broadcast off",
        "+ interfaces.eth0.redirects on",
        "+ interfaces.eth0.proxy_arp on",
        "+ arp.permanent_neighbours eth0 10.0.0.9 02:00:00:00:00:09 ",
    ]
    assert setting_lines(after, after) == []


TRANSLATING = """
nat:
  first_port: 30000
  masquerade: [{interface: eth1}]
  forward: [{protocol: tcp, address: 192.168.0.1, port: 8080, to: 192.168.1.2, to_port: 80}]
  timeouts: {udp_s: 120}
"""


def test_rules_of_address_translation_that_come() -> None:
    before, after = parse("", "r.yaml"), parse(TRANSLATING, "r.yaml")
    assert setting_lines(before, after) == [
        "- nat.first_port 20000",
        "+ nat.first_port 30000",
        "- nat.timeouts.udp_s 300.0",
        "+ nat.timeouts.udp_s 120.0",
        "+ nat.masquerade eth1 ",
        "+ nat.forward tcp 192.168.0.1 8080 192.168.1.2 80 ",
    ]


def test_rules_of_address_translation_are_saved() -> None:
    config = parse(TRANSLATING, "r.yaml")
    assert parse(saved_text(config, mirrored()), "saved.yaml").nat == config.nat


def test_routes_of_others_to_a_destination_that_is_named() -> None:
    rib = mirrored()
    named = [route.dst for route in desired(parse("routes: [{dst: 10.5.0.0/16, dev: eth1}]", "r.yaml")).routes]
    assert [(str(route.dst), route.proto) for route in running(rib, named).routes] == [
        ("10.3.0.0/16", 201),
        ("10.4.0.0/16", 201),
        ("10.5.0.0/16", 3),
    ]
