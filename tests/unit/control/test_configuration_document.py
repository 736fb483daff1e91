"""docs/configuration.md names every key with its default, and its example is a valid file."""

import re
import textwrap
from pathlib import Path

import pytest

from services.common.nat_rules import NatRules, NatTimeouts
from services.common.parameters import ArpParameters, IcmpParameters, InterfacePolicy
from services.control import config
from services.control.configuration.settings import ConfiguredRoute
from services.control.rpc_params import NextHopSpec

DOCUMENT = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize(
    ("group", "name", "default"),
    [
        (group, name, field.default)
        for group, model in (("arp", ArpParameters), ("icmp", IcmpParameters))
        for name, field in model.model_fields.items()
    ],
)
def test_every_parameter_stands_there_with_its_default(group: str, name: str, default: object) -> None:
    row = re.search(rf"^\| `parameters\.{group}\.{name}` \| `([^`]*)` \|", DOCUMENT, re.MULTILINE)

    assert row is not None
    assert row[1] == ("[]" if default == () else f"{default:g}" if isinstance(default, float) else str(default))


@pytest.mark.parametrize(
    ("name", "default"),
    [
        *((name, field.default) for name, field in NatRules.model_fields.items() if name != "timeouts"),
        *((f"timeouts.{name}", field.default) for name, field in NatTimeouts.model_fields.items()),
    ],
)
def test_every_setting_of_nat_stands_there_with_its_default(name: str, default: object) -> None:
    row = re.search(rf"^\| `nat\.{name}` \| `([^`]*)` \|", DOCUMENT, re.MULTILINE)

    assert row is not None
    assert row[1] == ("[]" if default == () else str(default))


@pytest.mark.parametrize(
    ("name", "default"), [(name, one.default) for name, one in InterfacePolicy.model_fields.items()]
)
def test_every_policy_stands_there_with_its_default(name: str, default: object) -> None:
    row = re.search(rf"^\| `{name}` \| `([^`]*)` \|", DOCUMENT, re.MULTILINE)

    assert row is not None
    assert row[1] == str(default).lower()


@pytest.mark.parametrize("name", [name for name in config.Config.model_fields if name != "parameters"])
def test_every_key_stands_there(name: str) -> None:
    assert re.search(rf"^\| `{name}[`.]", DOCUMENT, re.MULTILINE)


def test_the_keys_of_a_route_stand_there() -> None:
    row = re.search(r"^\| `routes` \|.*$", DOCUMENT, re.MULTILINE)
    assert row is not None
    for name in (*ConfiguredRoute.model_fields, *NextHopSpec.model_fields, "unicast", "prohibit"):
        assert f"`{name}`" in row[0], name


def test_the_example_of_rpc_is_a_valid_file(tmp_path: Path) -> None:
    example = re.search(r"^    rpc:\n(    .*\n)+", DOCUMENT, re.MULTILINE)
    assert example is not None
    text = example[0].replace("the 40 characters that keygen showed to admin", "k" * 40)
    rpc = config.parse(textwrap.dedent(text), "r.yaml").rpc
    assert rpc is not None
    assert rpc.listen == "tcp://192.0.2.1:7010"


def test_the_example_is_a_valid_file(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert example is not None
    file = tmp_path / "hopwire.yaml"
    file.write_text(example[1])

    loaded = config.load(file)

    assert [str(route.dst) for route in loaded.routes] == ["0.0.0.0/0", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"]
    assert loaded.links["eth1"].mtu == 9000
    assert loaded.parameters.arp.max_neighbours == 4096
    assert loaded.parameters.icmp.errors_per_second == 100
    assert [neighbour.address for neighbour in loaded.parameters.arp.permanent_neighbours] == ["192.168.0.2"]
    assert loaded.interfaces == {
        "eth0": InterfacePolicy(reverse_path="strict", proxy_arp=True, redirects=False),
        "*": InterfacePolicy(redirects=False),
    }
