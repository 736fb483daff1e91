"""Configurations applied to a running router: no frame is lost on a path that stays, and SIGHUP reaches control."""

import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import pytest
from router_lab import PREFIX, Control, RouterLab, far_address, hopwire, wait_for
from router_traffic import Pinger

from services.launcher.lab import measure
from services.launcher.lab.topologies import PAIR

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

FAR = "10.9.0.1"
LIMIT_S: Final = 60.0
STAYS = "{dst: 10.9.0.0/24, via: 192.168.0.2}"


def text(number: int) -> str:
    """Return a configuration in which much changes with its number, and the way to `FAR` does not."""
    return f"""
links: {{eth1: {{up: true}}}}
addresses: {{eth0: [10.5.{number}.1/24], eth1: [192.168.0.1{number}/24]}}
routes:
  - {STAYS}
  - {{dst: 10.2{number % 2}.0.0/16, via: 192.168.0.2}}
  - {{dst: 10.30.0.0/16, via: 192.168.{number % 2}.2}}
  - {{dst: 10.31.{number}.0/24, type: blackhole}}
interfaces: {{eth0: {{redirects: {str(number % 2 == 0).lower()}}}}}
parameters: {{icmp: {{errors_burst: {10 + number}}}}}
"""


def test_no_frame_is_lost_on_a_path_that_stays(pair: RouterLab, tmp_path: Path) -> None:
    control = pair.control()
    file = tmp_path / "r.yaml"
    with far_address(pair, "host2", FAR):
        file.write_text(f"routes: [{STAYS}]")
        control.change("config", "apply", str(file))
        assert measure.ping(pair, "host1", IPv4Address(FAR), "--count", "1", "--timeout", "10")["received"] == 1
        with Pinger(pair, "host1", FAR) as pinger:
            pinger.wait_for_replies(5)
            for number in range(6):
                file.write_text(text(number))
                control.change("config", "apply", str(file))
            control.change("config", "rollback", "2")
            pinger.wait_for_replies(20)
            assert pinger.lost() == 0
        file.write_text("")
        control.change("config", "apply", str(file))
    assert {one["dst"] for one in control.show("route", "show")} == {"192.168.0.0/24", "192.168.1.0/24"}


@pytest.fixture(scope="module")
def place() -> Iterator[RouterLab]:
    """The pair's namespaces; the tests start and stop the router in them."""
    with RouterLab(PAIR, prefix=f"{PREFIX}cf-") as lab:
        yield lab


def up_command(place: RouterLab, run_dir: Path, file: Path) -> list[str]:
    options = ["--netns", place.namespace("router"), "--run-dir", str(run_dir), "--config", str(file)]
    return [hopwire(), "up", *options]


def destinations(control: Control) -> set[str]:
    shown = control.cli("-j", "route", "show", "proto", "hopwire-config")
    return {one["dst"] for one in control.ask("route.show", proto="hopwire-config")} if shown.returncode == 0 else set()


def test_sighup_to_hopwire_up_applies_the_file_again(place: RouterLab, tmp_path: Path) -> None:
    file, run_dir = tmp_path / "own.yaml", tmp_path / "run"
    file.write_text("routes: [{dst: 10.20.0.0/16, via: 192.168.0.2}]")
    control = Control(run_dir)
    with (tmp_path / "errors").open("wb") as errors:
        up = subprocess.Popen(up_command(place, run_dir, file), stdout=subprocess.DEVNULL, stderr=errors)
    try:
        wait_for("the file is applied", lambda: destinations(control) == {"10.20.0.0/16"}, LIMIT_S)
        control.wait_until_ready(LIMIT_S)
        pids = control.pids()
        file.write_text("routes: [{dst: 10.21.0.0/16, via: 192.168.0.2}]")
        up.send_signal(signal.SIGHUP)
        wait_for("the file as it is now", lambda: destinations(control) == {"10.21.0.0/16"}, LIMIT_S)
        assert control.pids() == pids
        for number in range(22, 26):
            file.write_text(f"routes: [{{dst: 10.{number}.0.0/16, via: 192.168.0.2}}]")
            os.kill(pids["control"], signal.SIGKILL)
            up.send_signal(signal.SIGHUP)  # at whatever point of control's start it comes
            wait_for("control runs again", lambda: control.pids().get("control") != pids["control"], LIMIT_S)  # noqa: B023
            wait_for("it has the file", lambda: destinations(control) == {f"10.{number}.0.0/16"}, LIMIT_S)  # noqa: B023
            pids = control.pids()
        up.send_signal(signal.SIGTERM)
        assert up.wait(LIMIT_S) == 0
    finally:
        up.kill()
        up.wait(LIMIT_S)


def test_a_terminal_that_closes_still_ends_the_router(place: RouterLab, tmp_path: Path) -> None:
    file, run_dir = tmp_path / "own.yaml", tmp_path / "run"
    file.write_text("log_level: error")
    leader, follower = pty.openpty()
    up = subprocess.Popen(
        up_command(place, run_dir, file), stdin=follower, stdout=follower, stderr=follower, start_new_session=True
    )
    os.close(follower)
    try:
        Control(run_dir).wait_until_ready(LIMIT_S)
        os.close(leader)
        up.send_signal(signal.SIGHUP)  # as the kernel does where it is the controlling terminal
        assert up.wait(LIMIT_S) == 0
    finally:
        up.kill()
        up.wait(LIMIT_S)
