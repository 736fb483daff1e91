"""`neigh.*` of control's RPC, with a played arp: who owns which entry, and what is refused in which words."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from rib_builders import link

from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.common.parameters import PermanentNeighbour
from services.control.neigh_methods import NeighbourMethods
from services.control.permanent import PermanentNeighbours, permanent_path
from services.control.rib import Rib

ETH2 = 2
CONFIGURED = PermanentNeighbour(interface="eth2", address="10.0.0.2", mac="02:00:00:00:00:0B")
MAC = bytes.fromhex("020000000009")


def told(last: int, state: str = "REACHABLE") -> dict[str, Any]:
    return {
        "dst": 0x0A000000 + last,
        "interface": ETH2,
        "lladdr": MAC,
        "state": state,
        "age_s": 1.5,
        "waiting_frames": 2,
        "waiting_bytes": 200,
    }


class Router:
    """Control's methods, and arp as the test plays it."""

    def __init__(self, directory: Path) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.known: list[dict[str, Any]] = []
        self.refusal: RpcError | None = None
        rib = Rib()
        rib.links = {ETH2: link(ETH2), 1: link(1, name="lo", link_type=772)}
        self.permanent = PermanentNeighbours([CONFIGURED], permanent_path(directory))
        self.methods = NeighbourMethods(rib, self.permanent, self._ask)

    def _ask(self, service: str, method: str, params: dict[str, Any], answer: TypeAdapter[Any]) -> Any:
        assert service == "arp"
        if self.refusal is not None:
            raise RpcRefusedError(self.refusal)
        if method == "neigh.show":
            return answer.validate_python(self.known)
        self.asked.append((method, params))
        return answer.validate_python({})

    def refused(self, verb: str, **params: Any) -> tuple[str, str]:
        with pytest.raises(RpcRefusedError) as refused:
            getattr(self.methods, verb)(params)
        return refused.value.error.code, refused.value.error.message


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


def entry(last: int, **more: Any) -> dict[str, Any]:
    return {"dst": f"10.0.0.{last}", "dev": "eth2", **more}


def test_permanent_entries_are_shown_before_arp_has_heard_of_them_and_not_after_they_are_gone(router: Router) -> None:
    router.known = [told(9), told(8, "PERMANENT")]  # 10.0.0.8 was removed a moment ago
    assert router.methods.add(entry(7, lladdr="02:00:00:00:00:07")) == {}
    nothing = {"age_s": 0.0, "waiting_frames": 0, "waiting_bytes": 0}
    assert router.methods.show({}) == [
        entry(9, lladdr="02:00:00:00:00:09", state=["REACHABLE"], age_s=1.5, waiting_frames=2, waiting_bytes=200),
        entry(7, lladdr="02:00:00:00:00:07", state=["PERMANENT"], **nothing),
        entry(2, lladdr="02:00:00:00:00:0b", state=["PERMANENT"], **nothing),
    ]
    assert [one["dst"] for one in router.methods.show({"dst": "10.0.0.9", "dev": "eth2"})] == ["10.0.0.9"]
    assert router.methods.show({"dev": "eth3"}) == []


def test_add_needs_that_there_is_none_and_replace_does_not(router: Router) -> None:
    router.known = [told(9)]
    mac = {"lladdr": "02:00:00:00:00:0a"}
    for last in (9, 2):
        said = f"File exists: 10.0.0.{last} dev eth2; use replace"
        assert router.refused("add", **entry(last, **mac)) == ("refused", said)
    assert router.methods.replace(entry(9, **mac, nud="permanent")) == {}
    assert router.permanent.get(("eth2", "10.0.0.9")) is not None
    router.refusal = RpcError(code="unavailable", message="arp is not there")
    assert router.methods.add(entry(6, **mac)) == {}, "what shall be, control decides without arp"


def test_the_configuration_is_not_changed(router: Router) -> None:
    said = ("refused", "Operation not permitted: 10.0.0.2 dev eth2 is in the configuration; change it there")
    assert router.refused("replace", **entry(2, lladdr="02:00:00:00:00:0a")) == said
    assert router.refused("delete", **entry(2)) == said


def test_delete(router: Router) -> None:
    router.methods.add(entry(7, lladdr="02:00:00:00:00:07"))
    assert router.methods.delete(entry(7)) == {}
    assert (router.permanent.get(("eth2", "10.0.0.7")), router.asked) == (None, [])
    assert router.methods.delete(entry(9)) == {}
    assert router.asked == [("neigh.del", {"interface": ETH2, "dst": 0x0A000009})]
    router.refusal = RpcError(code="refused", message="No such file or directory")
    assert router.refused("delete", **entry(9)) == ("refused", "No such file or directory: 10.0.0.9 dev eth2")
    router.refusal = RpcError(code="unavailable", message="arp is not there; see `status`")
    assert router.refused("delete", **entry(9))[0] == "unavailable"


def test_flush_and_probe_are_arps(router: Router) -> None:
    assert (
        router.methods.flush({}) == router.methods.flush({"all": True}) == router.methods.flush({"dev": "eth2"}) == {}
    )
    assert router.methods.probe(entry(9)) == {}
    assert router.asked == [
        ("neigh.flush", {}),
        ("neigh.flush", {}),
        ("neigh.flush", {"interface": ETH2}),
        ("neigh.probe", {"interface": ETH2, "dst": 0x0A000009}),
    ]
    said = "Operation not permitted: 10.0.0.2 dev eth2 is permanent, and is not asked"
    assert router.refused("probe", **entry(2)) == ("refused", said)


@pytest.mark.parametrize(
    ("verb", "params", "expected"),
    [
        ("add", entry(9), ("usage", "lladdr: missing")),
        ("add", entry(9, lladdr="x"), ("usage", "lladdr: 'x' is not a MAC address such as 02:00:00:00:00:01")),
        (
            "add",
            entry(9, lladdr="ff:ff:ff:ff:ff:ff"),
            ("refused", "Invalid argument: lladdr ff:ff:ff:ff:ff:ff is no single station's"),
        ),
        (
            "replace",
            entry(9, lladdr="00:00:00:00:00:00"),
            ("refused", "Invalid argument: lladdr 00:00:00:00:00:00 is no single station's"),
        ),
        (
            "add",
            {"dst": "224.0.0.1", "dev": "eth2", "lladdr": "02:00:00:00:00:01"},
            ("refused", "Invalid argument: 224.0.0.1 is no single host's address"),
        ),
        ("delete", {"dst": "10.0.0.9", "dev": "eth9"}, ("refused", "No such device: eth9; there are: eth2")),
        ("probe", {"dst": "10.0.0.9", "dev": "lo"}, ("refused", "No such device: lo; there are: eth2")),
        ("flush", {"dev": "eth9"}, ("refused", "No such device: eth9; there are: eth2")),
    ],
)
def test_what_makes_no_sense(router: Router, verb: str, params: dict[str, Any], expected: tuple[str, str]) -> None:
    assert router.refused(verb, **params) == expected
    assert router.asked == []
