"""The rules of address translation: what a configuration may say, and those that the operator gives."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from services.common.errors import HopwireError
from services.common.messages import Interface, InterfaceAddress
from services.common.nat_rules import Forward, Masquerade, NatRules, OneToOne
from services.control.config import parse
from services.control.nat_methods import NatSpec
from services.control.nat_ports import translated_ports
from services.control.nat_store import NatStore, key_of, nat_path

CONFIGURED = NatRules(masquerade=(Masquerade(interface="eth1"),))
WEB = Forward(protocol="tcp", address="192.168.0.1", port=8080, to="192.168.1.2", to_port=80)


def test_a_section_of_the_configuration() -> None:
    rules = parse(
        """
nat:
  masquerade: [{interface: eth1, inside: [eth0]}]
  forward: [{protocol: udp, address: 192.168.0.1, port: 53, to: 192.168.1.2}]
  one_to_one: [{outside: 192.168.0.9, inside: 192.168.1.3}]
  filtering: endpoint-independent
  timeouts: {udp_s: 30}
""",
        "hopwire.yaml",
    ).nat
    assert rules.in_use
    assert rules.masquerade[0].inside == ("eth0",)
    assert (rules.forward[0].last, rules.forward[0].first_target_port) == (53, 53)
    assert (rules.filtering, rules.timeouts.udp_s, rules.timeouts.icmp_s) == ("endpoint-independent", 30, 60)
    assert not NatRules().in_use


@pytest.mark.parametrize(
    "wrong",
    [
        "{masquerade: [{interface: eth1}, {interface: eth1}]}",
        "{forward: [{protocol: sctp, address: 192.168.0.1, port: 53, to: 192.168.1.2}]}",
        "{forward: [{protocol: udp, address: 192.168.0.1, port: 0, to: 192.168.1.2}]}",
        "{forward: [{protocol: udp, address: 192.168.0.1, port: 9, last_port: 8, to: 192.168.1.2}]}",
        "{forward: [{protocol: udp, address: 192.168.0.1, port: 9, to: 224.0.0.1}]}",
        "{one_to_one: [{outside: 192.168.0.9, inside: 127.0.0.1}]}",
        "{first_port: 9, last_port: 8}",
        "{mapping: address-and-port-dependent}",
        "{max_sessions: 2000000}",
        "{timeouts: {udp_s: 0}}",
        "{masquerading: []}",
    ],
)
def test_what_is_wrong_is_refused_with_its_place(wrong: str) -> None:
    with pytest.raises(HopwireError, match=r"^hopwire\.yaml:1:\d+: "):
        parse(f"nat: {wrong}", "hopwire.yaml")


def test_ports_are_forwarded_once() -> None:
    others = Forward(protocol="tcp", address="192.168.0.1", port=8000, last_port=8080, to="10.0.0.1")
    with pytest.raises(ValidationError, match="forwarded twice"):
        NatRules(forward=(WEB, others))


def test_given_rules_outlive_control(tmp_path: Path) -> None:
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    assert (store.current, store.take_changed()) == (CONFIGURED, False)
    store.add(WEB)
    assert (store.take_changed(), store.take_changed()) == (True, False)
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    assert (store.current.masquerade, store.current.forward) == (CONFIGURED.masquerade, (WEB,))
    assert (store.is_configured(("masquerade", "eth1")), store.is_configured(key_of(WEB))) == (True, False)
    store.remove(key_of(WEB))
    assert NatStore(CONFIGURED, nat_path(tmp_path)).current == CONFIGURED


def test_rules_that_contradict_others_are_not_kept(tmp_path: Path) -> None:
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    with pytest.raises(ValueError, match="eth1 is there twice"):
        store.add(Masquerade(interface="eth1"))
    assert (store.current, store.take_changed(), nat_path(tmp_path).exists()) == (CONFIGURED, False, False)


def test_another_configuration_takes_effect_and_given_rules_stay(tmp_path: Path) -> None:
    """Also there and back, as a configuration that is not confirmed goes back."""
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    store.add(WEB)
    assert store.take_changed()
    store.configure(CONFIGURED)
    assert not store.take_changed()
    store.configure(NatRules(masquerade=(Masquerade(interface="eth2"),), first_port=30_000))
    assert store.take_changed()
    assert ([rule.interface for rule in store.current.masquerade], store.current.first_port) == (["eth2"], 30_000)
    assert store.current.forward == (WEB,)
    store.configure(CONFIGURED)
    assert store.current == CONFIGURED.model_copy(update={"forward": (WEB,)})


def test_a_given_rule_that_the_configuration_contradicts_waits(tmp_path: Path) -> None:
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    store.add(WEB)
    overlapping = Forward(protocol="tcp", address="192.168.0.1", port=8000, last_port=8100, to="192.168.1.9")
    store.configure(CONFIGURED.model_copy(update={"forward": (overlapping,)}))
    assert store.current.forward == (overlapping,)
    assert "forward tcp 192.168.0.1 8080 (" in store.warning
    assert store.find(key_of(WEB)) == WEB
    store.configure(CONFIGURED)
    assert (store.current.forward, store.warning) == ((WEB,), "")


def test_a_rule_that_the_configuration_gives_as_well_is_the_configurations(tmp_path: Path) -> None:
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    store.add(WEB)
    same = WEB.model_copy(update={"to": "192.168.1.9"})
    store.configure(CONFIGURED.model_copy(update={"forward": (same,)}))
    assert (store.current.forward, store.warning, store.is_configured(key_of(WEB))) == ((same,), "", True)


@pytest.mark.parametrize(
    "content", ["", "{", '{"masquerade": [{"interface": "eth1"}, {"interface": "eth1"}]}', '{"forward": 3}']
)
def test_a_file_that_makes_no_sense_is_left_alone(tmp_path: Path, content: str) -> None:
    nat_path(tmp_path).write_text(content)
    store = NatStore(CONFIGURED, nat_path(tmp_path))
    assert store.current == CONFIGURED
    assert "are not used" in store.warning
    assert nat_path(tmp_path).read_text() == content


def test_a_rule_as_a_user_writes_it() -> None:
    spec = NatSpec.model_validate({"tcp": "192.168.0.1", "port": 8080, "to": "192.168.1.2", "to_port": 80})
    assert spec.rule(to_be_added=True) == WEB
    named = NatSpec.model_validate({"tcp": "192.168.0.1", "port": 8080})
    assert key_of(named.rule(to_be_added=False)) == key_of(WEB)
    with pytest.raises(ValueError, match="to: missing"):
        named.rule(to_be_added=True)
    for wrong in ({}, {"masquerade": "eth1", "tcp": "192.168.0.1"}, {"tcp": "192.168.0.1"}):
        with pytest.raises(ValidationError):
            NatSpec.model_validate(wrong)


def test_the_kernel_is_kept_from_translated_ports() -> None:
    """The range on each outside address, forwarded ports, and one-to-one addresses wholly."""
    address = int.from_bytes(bytes((192, 168, 0, 1)), "big")
    interface = Interface(
        index=4, name="eth1", mac=bytes(6), mtu=1500, up=True,
        addresses=[InterfaceAddress(address=address, prefix_length=24)],
    )  # fmt: skip
    rules = NatRules(
        masquerade=(Masquerade(interface="eth1"),),
        forward=(WEB,),
        one_to_one=(OneToOne(outside="192.168.0.9", inside="192.168.1.3"),),
    )
    assert set(map(tuple, translated_ports(rules, [interface]))) == {
        (address, 6, 20_000, 59_999),
        (address, 17, 20_000, 59_999),
        (address, 6, 8080, 8080),
        (address + 8, 0, 0, 0),
    }
    assert translated_ports(NatRules(), [interface]) == []
