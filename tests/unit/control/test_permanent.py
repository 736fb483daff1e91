"""Permanent neighbours: of the configuration and of the operator, and the file that keeps the latter."""

from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.common.parameters import Parameters, PermanentNeighbour
from services.control.permanent import PermanentNeighbours, permanent_path


def neighbour(last: int, mac: int = 0xA) -> PermanentNeighbour:
    return PermanentNeighbour(interface="eth1", address=f"192.168.0.{last}", mac=f"02:00:00:00:00:{mac:02x}")


CONFIGURED, GIVEN = neighbour(2), neighbour(9)


def test_entries_outlive_control(tmp_path: Path) -> None:
    path = permanent_path(tmp_path)
    permanent = PermanentNeighbours([CONFIGURED], path)
    assert (permanent.all(), permanent.take_changed(), path.exists()) == ([CONFIGURED], False, False)
    permanent.put(GIVEN)
    assert (permanent.take_changed(), permanent.take_changed()) == (True, False)
    permanent = PermanentNeighbours([CONFIGURED], path)
    assert sorted(permanent.all(), key=str) == sorted([CONFIGURED, GIVEN], key=str)
    assert permanent.get(("eth1", "192.168.0.9")) == GIVEN
    assert (permanent.is_configured(("eth1", "192.168.0.9")), permanent.is_configured(("eth1", "192.168.0.2"))) == (
        False,
        True,
    )
    permanent.remove(("eth1", "192.168.0.9"))
    assert permanent.take_changed()
    assert PermanentNeighbours([], path).all() == []


def test_the_configuration_goes_first(tmp_path: Path) -> None:
    """A file that was written before the configuration had the entry."""
    PermanentNeighbours([], permanent_path(tmp_path)).put(neighbour(2, mac=0xB))
    assert PermanentNeighbours([CONFIGURED], permanent_path(tmp_path)).all() == [CONFIGURED]


def test_they_are_part_of_the_parameters(tmp_path: Path) -> None:
    permanent = PermanentNeighbours([CONFIGURED], permanent_path(tmp_path))
    permanent.put(GIVEN)
    parameters = permanent.within(Parameters())
    assert set(parameters.arp.permanent_neighbours) == {CONFIGURED, GIVEN}
    assert parameters.icmp == Parameters().icmp


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"interface": "eth1"}]'])
def test_a_file_that_makes_no_sense_is_said(tmp_path: Path, text: str) -> None:
    path = permanent_path(tmp_path)
    path.write_text(text)
    permanent = PermanentNeighbours([CONFIGURED], path)
    assert permanent.all() == [CONFIGURED]
    assert (
        permanent.warning == f"permanent neighbours in {path} are not used: not a list of neighbours; remove the file"
    )


def test_an_entry_that_cannot_be_kept_is_not_taken(tmp_path: Path) -> None:
    permanent = PermanentNeighbours([], permanent_path(tmp_path / "nowhere"))
    with pytest.raises(HopwireError, match=r"cannot keep neighbours in .*No such file or directory"):
        permanent.put(GIVEN)
    assert (permanent.all(), permanent.take_changed()) == ([], False)
