"""The plan from what the kernel has to what a configuration asks for: its steps, their order, and their inverse."""

from collections.abc import Iterable
from ipaddress import IPv4Interface

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.control.config import parse
from services.control.configuration.plan import PlanError, plan
from services.control.configuration.state import (
    AddressStep,
    Desired,
    LinkState,
    LinkStep,
    Owned,
    RouteStep,
    Running,
    Step,
    desired,
    normal_route,
)
from services.control.rpc_params import RouteSpec

CONFIG, HOPWIRE, BIRD = 201, 200, 12


def wanted(text: str) -> Desired:
    return desired(parse(text, "r.yaml"))


def addresses(*texts: str) -> tuple[IPv4Interface, ...]:
    return tuple(IPv4Interface(text) for text in texts)


def route(proto: int = CONFIG, **fields: object) -> RouteSpec:
    return normal_route(RouteSpec.model_validate(fields), proto)


def kernel(
    *routes: RouteSpec, eth0: Iterable[str] = ("10.0.0.1/24",), eth1: Iterable[str] = ("10.1.0.1/24",)
) -> Running:
    up = LinkState(up=True, mtu=1500)
    return Running({"eth0": up, "eth1": up}, {"eth0": addresses(*eth0), "eth1": addresses(*eth1)}, routes)


def owning(*texts: str) -> Owned:
    return Owned.model_construct(addresses={"eth0": addresses(*texts)})


def lines(running: Running, text: str, owned: Owned | None = None) -> list[str]:
    return plan(running, wanted(text), owned or Owned()).lines


def test_nothing_is_touched_that_is_right() -> None:
    running = kernel(
        route(dst="10.2.0.0/16", via="10.0.0.9", dev="eth0"),
        route(dst="10.3.0.0/16", nexthops=[{"via": "10.0.0.9", "dev": "eth0"}, {"dev": "eth1", "weight": 2}]),
        route(dst="10.4.0.0/16", type="blackhole"),
    )
    text = """
links: {eth0: {up: true, mtu: 1500}}
addresses: {eth1: [10.1.0.1/24]}
routes:
  - {dst: 10.4.0.0/16, type: blackhole, metric: 0}
  - {dst: 10.3.0.0/16, nexthops: [{via: 10.0.0.9}, {dev: eth1, weight: 2}]}
  - {dst: 10.2.0.0/16, nexthops: [{via: 10.0.0.9}]}
"""
    assert plan(running, wanted(text), Owned()).steps == ()


def test_the_order() -> None:
    running = kernel(route(dst="10.9.0.0/16", via="10.0.0.9", dev="eth0"))
    owned = owning("10.0.0.1/24")
    text = """
links: {eth0: {mtu: 1400}, eth1: {up: false}}
addresses: {eth0: [10.5.0.1/24]}
routes: [{dst: 10.2.0.0/16, via: 10.3.0.9}, {dst: 10.3.0.0/16, dev: eth0}]
"""
    assert lines(running, text, owned) == [
        "- link eth0 mtu 1500",
        "+ link eth0 mtu 1400",
        "+ address 10.5.0.1/24 dev eth0",
        "+ route 10.3.0.0/16 dev eth0",
        "+ route 10.2.0.0/16 via 10.3.0.9",
        "- route 10.9.0.0/16 via 10.0.0.9 dev eth0",
        "- address 10.0.0.1/24 dev eth0",
        "- link eth1 up",
        "+ link eth1 down",
    ]


def test_a_gateway_follows_an_address_that_moves() -> None:
    running = kernel(route(dst="10.2.0.0/16", via="10.0.0.9", dev="eth0"))
    owned = owning("10.0.0.1/24")
    text = "addresses: {eth1: [10.0.0.1/24]}\nroutes: [{dst: 10.2.0.0/16, via: 10.0.0.9}]"
    assert lines(running, text, owned) == [
        "+ address 10.0.0.1/24 dev eth1",
        "- route 10.2.0.0/16 via 10.0.0.9 dev eth0",
        "+ route 10.2.0.0/16 via 10.0.0.9 dev eth1",
        "- address 10.0.0.1/24 dev eth0",
    ]


def test_links_become_what_they_were() -> None:
    running = kernel()
    first = plan(running, wanted("links: {eth0: {mtu: 1400}, eth1: {up: true}}"), Owned())
    assert first.owned.links == {"eth0": LinkState(mtu=1500), "eth1": LinkState(up=True)}
    changed = Running({**running.links, "eth0": LinkState(up=True, mtu=1400)}, running.addresses, ())
    again = plan(changed, wanted("links: {eth0: {mtu: 1300}}"), first.owned)
    assert again.owned.links == {"eth0": LinkState(mtu=1500)}, "what it was like before all configuration"
    assert plan(changed, Desired(), again.owned).lines == ["- link eth0 mtu 1400", "+ link eth0 mtu 1500"]


def test_addresses_that_were_there_before_stay() -> None:
    running = kernel()
    first = plan(running, wanted("addresses: {eth0: [10.0.0.1/24, 10.5.0.1/24]}"), Owned())
    assert first.lines == ["+ address 10.5.0.1/24 dev eth0"]
    assert first.owned.addresses == {"eth0": addresses("10.5.0.1/24")}
    after = kernel(eth0=("10.0.0.1/24", "10.5.0.1/24"))
    assert plan(after, Desired(), first.owned).lines == ["- address 10.5.0.1/24 dev eth0"]


def test_a_new_primary_address() -> None:
    running = kernel(eth0=("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24"))
    owned = owning("10.0.0.1/24")
    steps = plan(running, Desired(), owned).steps
    assert [(str(step.address), step.comes) for step in steps if isinstance(step, AddressStep)] == [
        ("10.0.0.2/32", True),
        ("10.0.0.3/24", False),
        ("10.0.0.2/24", False),
        ("10.0.0.1/24", False),
        ("10.0.0.2/24", True),
        ("10.0.0.3/24", True),
        ("10.0.0.2/32", False),
    ]
    assert plan(running, Desired(), owned).lines == ["- address 10.0.0.1/24 dev eth0"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("links: {eth9: {up: true}}", "No such device: eth9; there are: eth0, eth1"),
        ("addresses: {eth9: [10.5.0.1/24]}", "No such device: eth9; there are: eth0, eth1"),
        ("routes: [{dst: 10.9.0.0/16, nexthops: [{dev: eth9}]}]", "No such device: eth9; there are: eth0, eth1"),
        (
            "routes: [{dst: 10.2.0.0/16, dev: eth1}]",
            "File exists: 10.2.0.0/16 dev eth1: there is a route of that metric",
        ),
    ],
)
def test_where_there_is_no_way(text: str, message: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(kernel(route(BIRD, dst="10.2.0.0/16", via="10.0.0.9", dev="eth0")), wanted(text), Owned())
    assert str(caught.value).startswith(message)


def test_a_route_that_others_have_as_well_is_not_replaced() -> None:
    """The kernel would put it in the place of the first one, which may be the other."""
    running = kernel(
        route(BIRD, dst="10.2.0.0/16", via="10.0.0.9", dev="eth0"), route(dst="10.2.0.0/16", via="10.1.0.9", dev="eth1")
    )
    with pytest.raises(PlanError):
        plan(running, wanted("routes: [{dst: 10.2.0.0/16, via: 10.1.0.8}]"), Owned())
    assert lines(running, "routes: [{dst: 10.2.0.0/16, via: 10.1.0.9}]") == []
    assert lines(running, "") == ["- route 10.2.0.0/16 via 10.1.0.9 dev eth1"]


def test_a_route_of_control_cli_gives_way_and_comes_back() -> None:
    given = route(HOPWIRE, dst="10.2.0.0/16", via="10.0.0.9", dev="eth0")
    text = "routes: [{dst: 10.2.0.0/16, via: 10.1.0.9}]"
    (step,) = plan(kernel(given), wanted(text), Owned()).steps
    own = route(dst="10.2.0.0/16", via="10.1.0.9", dev="eth1")
    assert step == RouteStep(given, own)
    back = plan(kernel(own), Desired(), Owned(), {(given.dst, 0): given})
    assert back.steps == (step.inverse,)
    assert plan(kernel(own), Desired(), Owned()).steps == (RouteStep(own, None),)


# --- Any state to any other and back ----------------------------------------------------------------------------------

HOSTS = st.sampled_from(["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.1.0.1/24", "10.1.0.2/24", "10.7.0.1/32"])
OWN = st.lists(HOSTS, unique=True, max_size=4)
DESTINATIONS = ["10.20.0.0/16", "10.21.0.0/16"]


@st.composite
def texts(draw: st.DrawFn) -> str:
    def listed(device: str) -> str:
        return f"  {device}: [{', '.join(draw(OWN))}]\n"

    kinds = ["type: blackhole", "dev: eth0", "via: 10.0.0.9, dev: eth1", "type: prohibit, mtu: 1300"]
    routes = "".join(
        f"  - {{dst: {one}, {draw(st.sampled_from(kinds))}}}\n" for one in DESTINATIONS if draw(st.booleans())
    )
    mtu = draw(st.sampled_from(["", "links: {eth0: {mtu: 1400}}\n", "links: {eth0: {up: false}, eth1: {mtu: 1300}}\n"]))
    return mtu + "addresses:\n" + listed("eth0") + listed("eth1") + (f"routes:\n{routes}" if routes else "")


def carried_out(running: Running, steps: Iterable[Step]) -> Running:
    """Do as Linux does without promote_secondaries, for addresses; as it is asked to, for the rest."""
    links, own, routes = dict(running.links), dict(running.addresses), list(running.routes)
    for step in steps:
        match step:
            case LinkStep(dev=dev, after=after):
                assert step.before.model_dump(exclude_none=True).items() <= links[dev].model_dump().items()
                links[dev] = links[dev].model_copy(update=after.model_dump(exclude_none=True))
            case AddressStep(dev=dev, address=address, comes=True):
                assert address not in own[dev], "File exists"
                own[dev] = (*own[dev], address)
            case AddressStep(dev=dev, address=address):
                assert address in own[dev], "Cannot assign requested address"
                group = [one for one in own[dev] if one.network == address.network]
                gone = group if group[0] == address else [address]
                own[dev] = tuple(one for one in own[dev] if one not in gone)
            case RouteStep(before=before, after=after):
                place = len(routes) if before is None else routes.index(before)
                routes[place : place + 1] = [] if after is None else [after]
    return Running(links, own, tuple(routes))


def by_network(running: Running) -> object:
    """Return all but orders that mean nothing: of routes, of networks, and of a network's secondary addresses."""
    groups: dict[object, list[IPv4Interface]] = {}
    for dev, own in running.addresses.items():
        for address in own:
            groups.setdefault((dev, address.network), []).append(address)
    primary_and_rest = {key: (group[0], set(group)) for key, group in groups.items()}
    return running.links, primary_and_rest, sorted(map(repr, running.routes))


@given(there=OWN, first=texts(), second=texts())
@settings(max_examples=150, deadline=None)
def test_any_configuration_to_any_other_and_back(there: list[str], first: str, second: str) -> None:
    start = kernel(eth0=there, eth1=())
    owned, present = Owned(), start
    for text in (first, second):
        made = plan(present, wanted(text), owned)
        after = carried_out(present, made.steps)
        assert by_network(carried_out(after, [step.inverse for step in reversed(made.steps)])) == by_network(present)
        assert plan(after, wanted(text), made.owned).steps == ()
        for name, own in wanted(text).addresses.items():
            assert set(after.addresses[name]) == set(own) | set(start.addresses[name])
        owned, present = made.owned, after
    end = plan(present, Desired(), owned)
    assert carried_out(present, end.steps).links == start.links
    assert set(carried_out(present, end.steps).addresses["eth0"]) == set(start.addresses["eth0"])
    assert carried_out(present, end.steps).routes == ()
