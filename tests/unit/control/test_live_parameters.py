"""Changing parameters while the router runs."""

import pytest

from services.common.parameters import IcmpParameters, Parameters
from services.control.cli.config_verbs import PARAMETERS
from services.control.live_parameters import LiveParameters, names


def test_a_change_holds_beside_what_is_configured() -> None:
    live = LiveParameters(Parameters(icmp=IcmpParameters(errors_burst=7)))
    live.set({"icmp.errors_per_second": 20, "arp.failed_time_s": 1.5})
    assert live.current.icmp == IcmpParameters(errors_burst=7, errors_per_second=20)
    assert live.current.arp.failed_time_s == 1.5


def test_each_change_is_told_once() -> None:
    live = LiveParameters(Parameters())
    assert not live.take_changed()
    live.set({"icmp.errors_per_second": 20})
    assert live.take_changed()
    assert not live.take_changed()
    live.set({"icmp.errors_per_second": 20})
    assert not live.take_changed(), "it was so already"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("icmp.errors_per_minute", 5, "no such parameter; there are: arp.base_reachable_time_s, "),
        ("icmp", 5, "no such parameter"),
        ("", 5, "no such parameter"),
        ("icmp.", 5, "no such parameter"),
        ("arp.permanent_neighbours", [], "no such parameter"),
        ("icmp.errors_per_second", 0, "icmp.errors_per_second: 0: should be greater than or equal to 1"),
        ("icmp.errors_per_second", "many", "icmp.errors_per_second: 'many': should be a valid integer"),
        ("icmp.errors_per_second", 1.5, "icmp.errors_per_second: 1.5: should be a valid integer"),
        ("arp.failed_time_s", -1, "arp.failed_time_s: -1: should be greater than 0"),
        ("arp.failed_time_s", float("nan"), "arp.failed_time_s: nan: should be"),
    ],
)
def test_a_change_that_is_refused_says_why_and_changes_nothing(name: str, value: object, words: str) -> None:
    live = LiveParameters(Parameters())
    with pytest.raises(ValueError, match=r"^[^\n]+$") as refused:
        live.set({"icmp.errors_burst": 9, name: value})
    assert words in str(refused.value)
    assert live.current == Parameters()
    assert not live.take_changed()


def test_all_names_can_be_set_to_what_they_are() -> None:
    live = LiveParameters(Parameters())
    values = Parameters().model_dump()
    for name in names():
        section, field = name.split(".")
        live.set({name: values[section][field]})
    assert live.current == Parameters()
    assert "icmp.errors_per_second" in names()
    assert "arp.permanent_neighbours" not in names()


def test_the_command_line_knows_them_all() -> None:
    assert list(PARAMETERS) == names()
