"""Which policy an interface has: configured by name, changed while it lives, and published at once."""

from rib_builders import link

from services.common.parameters import InterfacePolicy
from services.control.kernel_types import LinkChanged, LinkGone
from services.control.policies import InterfacePolicies
from services.control.rib import KernelDump, Rib
from services.control.route_table import RouteTables

ETH2, ETH3 = 2, 3
STRICT = InterfacePolicy(reverse_path="strict")
LINUX = InterfacePolicy(martians="linux")


def test_an_interfaces_own_entry_then_that_of_all_then_the_defaults() -> None:
    policies = InterfacePolicies({"eth0": STRICT, "*": LINUX})
    assert policies.of(2, "eth0") == STRICT
    assert policies.of(3, "eth1") == LINUX
    assert InterfacePolicies({"eth0": STRICT}).of(3, "eth1") == InterfacePolicies().of(1, "lo") == InterfacePolicy()


def test_changes_add_up_over_what_is_configured_and_follow_the_interface() -> None:
    policies = InterfacePolicies({"eth0": STRICT})
    policies.change(2, {"martians": "linux"})
    policies.change(2, {"redirects": False, "martians": "strict"})
    assert policies.of(2, "eth0") == InterfacePolicy(reverse_path="strict", redirects=False)
    assert policies.of(2, "wan") == InterfacePolicy(redirects=False)  # renamed
    policies.forget_gone([3])
    assert policies.of(2, "eth0") == STRICT


def test_names_that_nobody_bears() -> None:
    policies = InterfacePolicies({"eth7": STRICT, "eth0": STRICT, "*": LINUX})
    assert policies.absent({"lo", "eth0"}) == ["eth7"]


def followed(policies: InterfacePolicies) -> Rib:
    rib = Rib(policies)
    rib.adopt(KernelDump([link(ETH2), link(ETH3)], [], 0, RouteTables()))
    rib.take_changes()
    return rib


def test_a_change_publishes_that_interface_alone() -> None:
    rib = followed(InterfacePolicies({"*": LINUX}))
    assert {one.policy for one in rib.interfaces} == {LINUX}
    rib.change_policy(ETH2, {"reverse_path": "loose"})
    state = rib.take_changes()
    assert state is not None
    assert [(one.index, one.policy) for one in state.interfaces] == [
        (ETH2, InterfacePolicy(martians="linux", reverse_path="loose"))
    ]
    rib.change_policy(ETH2, {"reverse_path": "loose"})
    assert rib.take_changes() is None


def test_an_interface_that_comes_again_begins_as_configured() -> None:
    rib = followed(InterfacePolicies())
    rib.change_policy(ETH2, {"proxy_arp": True})
    rib.take_changes()
    rib.apply(LinkGone(ETH2))
    rib.take_changes()
    rib.apply(LinkChanged(link(ETH2)))
    rib.take_changes()
    assert [one.policy.proxy_arp for one in rib.interfaces] == [False, False]
