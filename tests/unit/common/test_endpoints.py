"""The run directory: what is refused, and that its longest socket name fits."""

import os
from pathlib import Path

import pytest
import zmq

from services.common.endpoints import Endpoints, prepare_run_dir
from services.common.errors import HopwireError


def socket_names(endpoints: Endpoints) -> list[str]:
    values = [getattr(endpoints, name) for name, value in vars(Endpoints).items() if isinstance(value, property)]
    return [value for value in values if isinstance(value, str)]


def test_it_is_made_for_the_owner_and_the_group_alone(tmp_path: Path) -> None:
    endpoints = prepare_run_dir(tmp_path / "run" / "hopwire")
    assert endpoints.run_dir == tmp_path / "run" / "hopwire"
    assert endpoints.run_dir.stat().st_mode & 0o777 == 0o750


def test_each_endpoint_has_a_name_of_its_own_in_the_run_directory(tmp_path: Path) -> None:
    names = socket_names(Endpoints(tmp_path))
    assert len(names) == 10
    assert len(set(names)) == len(names)
    assert all(name.startswith(f"ipc://{tmp_path}/") for name in names)


def test_an_endpoint_elsewhere_replaces_its_own_only(tmp_path: Path) -> None:
    endpoints = Endpoints(tmp_path, {"arp-frames": "tcp://127.0.0.1:7002", "forwarder-frames": ""})
    assert endpoints.arp_frames == "tcp://127.0.0.1:7002"
    assert endpoints.forwarder_frames == Endpoints(tmp_path).forwarder_frames


def test_the_longest_path_that_is_accepted_can_be_bound(tmp_path: Path) -> None:
    longest = max(len(os.fsencode(name)) for name in socket_names(Endpoints(Path("/r")))) - len("ipc:///r/")
    padding = 107 - len(os.fsencode(tmp_path)) - 2 - longest
    assert padding > 0, "pytest's own folder leaves no room; choose a shorter --basetemp"
    with pytest.raises(HopwireError, match=r"too long for Unix sockets .*--run-dir"):
        prepare_run_dir(tmp_path / ("x" * (padding + 1)))
    endpoints = prepare_run_dir(tmp_path / ("x" * padding))
    with zmq.Context() as context:
        for name in socket_names(endpoints):
            with context.socket(zmq.PULL) as socket:
                socket.bind(name)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(HopwireError, match=r"run directory .*/run: File exists; choose another with --run-dir"):
        prepare_run_dir(tmp_path / "run")


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_open_to_everybody(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(HopwireError, match=r"writable by everybody; run: chmod 0750"):
        prepare_run_dir(tmp_path)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users(tmp_path: Path) -> None:
    os.chown(tmp_path, 65_534, 65_534)
    with pytest.raises(HopwireError, match=r"belongs to user 65534; choose another --run-dir"):
        prepare_run_dir(tmp_path)


def test_what_is_made_in_it_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    prepare_run_dir(tmp_path / "run")
    (tmp_path / "run" / "file").touch(mode=0o666)
    assert (tmp_path / "run" / "file").stat().st_mode & 0o777 == 0o640


def test_where_nothing_can_be_made() -> None:
    with pytest.raises(HopwireError, match=r"^run directory /proc/hopwire.*--run-dir$"):
        prepare_run_dir(Path("/proc/hopwire"))
