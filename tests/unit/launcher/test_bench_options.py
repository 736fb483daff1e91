"""The benchmark's options: which go together, what its lab is then, and where the result goes."""

import json
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.launcher.bench import deliver, rig
from services.launcher.bench.options import Comparison, Output, problem

PLAIN = Comparison(seconds=2.0, rounds=3, interfaces=1, table=None, loss_free=False, trial_seconds=None, latency=False)


def test_options_that_go_together() -> None:
    everything = replace(PLAIN, interfaces=4, table="synthetic", loss_free=True, trial_seconds=1.0, latency=True)
    assert problem(PLAIN, [], has_prefixes=False) is None
    assert problem(everything, [], has_prefixes=False) is None
    assert problem(PLAIN, ["nat"], has_prefixes=False) is None
    assert problem(PLAIN, ["full-table"], has_prefixes=True) is None


@pytest.mark.parametrize(
    ("comparison", "instead", "has_prefixes", "words"),
    [
        (PLAIN, ["floods", "nat"], False, "--floods and --nat are measured one at a time"),
        (replace(PLAIN, loss_free=True), ["nat"], False, "--loss-free is an option of the comparison with the kernel"),
        (replace(PLAIN, table="x"), ["floods"], False, "--table is an option of the comparison with the kernel"),
        (replace(PLAIN, interfaces=2), ["full-table"], False, "--interfaces is an option of the comparison"),
        (replace(PLAIN, latency=True), ["nat"], False, "--latency is an option of the comparison with the kernel"),
        (PLAIN, [], True, "--prefixes goes with --full-table; for the comparison with the kernel use --table"),
        (PLAIN, ["nat"], True, "--prefixes goes with --full-table"),
        (replace(PLAIN, trial_seconds=1.0), [], False, "--trial-seconds goes with --loss-free"),
    ],
)
def test_options_that_do_not(comparison: Comparison, instead: list[str], has_prefixes: bool, words: str) -> None:
    found = problem(comparison, instead, has_prefixes=has_prefixes)
    assert found is not None
    assert found.startswith(words)


def test_one_sender_is_the_pair() -> None:
    topology = rig.topology(1)
    assert [host.name for host in topology.hosts] == ["host1", "host2"]
    assert len(topology.interfaces("router")) == 2


def test_more_senders_have_links_of_their_own() -> None:
    topology = rig.topology(3)
    assert [host.name for host in topology.hosts] == ["host1", "host2", "host3", "host4"]
    assert [str(interface.address) for interface in topology.interfaces("router")] == [
        "192.168.1.1/24",
        "192.168.0.1/24",
        "192.168.2.1/24",
        "192.168.3.1/24",
    ]
    assert topology.address("host4") == IPv4Address("192.168.3.2")
    assert len(rig.topology(16).interfaces("router")) == 17


def test_the_result_goes_to_both_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bench.json"
    output = Output(as_json=False, file=file)
    deliver.check(output)
    deliver.deliver({"seconds": 2.0}, ["a table", "a note"], output)
    document = json.loads(file.read_text())
    assert document["seconds"] == 2.0
    assert set(document["machine"]) == {"cpu", "cpus", "kernel", "python", "numba"}
    assert capsys.readouterr().out == "a table\na note\n"
    deliver.deliver({"seconds": 3.0}, ["a table"], Output(as_json=True, file=file))
    assert json.loads(capsys.readouterr().out) == json.loads(file.read_text())


def test_a_file_that_cannot_be_written_is_told_before_measuring(tmp_path: Path) -> None:
    output = Output(as_json=False, file=tmp_path / "nowhere" / "bench.json")
    with pytest.raises(HopwireError, match=r"cannot write .*: No such file or directory; name another file with --out"):
        deliver.check(output)
