"""Permanent neighbours as the configuration writes them and the bus carries them."""

import pytest
from pydantic import ValidationError

from services.common.messages import RouterState, StateEnvelope, decode, encode
from services.common.parameters import ArpParameters, Parameters, PermanentNeighbour


def test_permanent_neighbours_travel_over_the_bus() -> None:
    neighbour = PermanentNeighbour(interface="eth0", address="10.0.0.2", mac="02:00:00:00:00:02")
    parameters = Parameters(arp=ArpParameters(permanent_neighbours=(neighbour,)))
    envelope = StateEnvelope(epoch=1, sequence=1, body=RouterState(full=True, parameters=parameters))
    assert decode(encode(envelope)) == envelope


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interface", ""),
        ("interface", "a-name-too-long-"),
        ("address", "10.0.0.256"),
        ("address", "10.0.0.0/24"),
        ("address", "host"),
        ("mac", "02:00:00:00:00"),
        ("mac", "02-00-00-00-00-02"),
        ("mac", "01:00:5e:00:00:01"),  # a group's
        ("mac", "ff:ff:ff:ff:ff:ff"),
        ("state", "PERMANENT"),
    ],
)
def test_what_is_no_permanent_neighbour(field: str, value: str) -> None:
    good = {"interface": "eth0", "address": "10.0.0.2", "mac": "02:00:00:00:00:02"}
    with pytest.raises(ValidationError):
        PermanentNeighbour.model_validate(good | {field: value})
