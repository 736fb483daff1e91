"""The control process in a network namespace, spoken to over its real sockets; the other services are played."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from control_harness import (
    HAS_IP,
    Namespace,
    Router,
    namespace,
    router,
    run_to_end,
    wait_for,
)

from services.common import netns
from services.common.endpoints import prepare_run_dir

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"ctls{os.getpid()}") as made:
        yield made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return prepare_run_dir(tmp_path / "run").run_dir


@pytest.fixture
def running(space: Namespace, run_dir: Path) -> Iterator[Router]:
    with router(space, run_dir) as made:
        made.wait_until_mirrored()
        yield made


# --- State ------------------------------------------------------------------------------------------------------------


def test_subscribers_get_the_kernels_state_and_each_change(space: Namespace, running: Router) -> None:
    eth0 = space.index("eth0")
    table = running.follower.table()
    assert table["10.0.0.0/24"] == ("unicast", ((eth0, "0.0.0.0", 1),), 0)
    assert table["10.0.0.1/32"] == ("local", (), 0)
    assert running.follower.parameters is not None
    assert {one.name for one in running.follower.interfaces.values()} == {"eth0", "far0", "eth1", "far1"}
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.2.0.0/16" in follower.routes, "a new route")
    assert running.follower.snapshots == 1
    space.down("far0")
    running.wait_until(lambda follower: "10.2.0.0/16" not in follower.routes, "no route without carrier")
    assert not running.follower.interfaces[eth0].up


@pytest.mark.skipif(not HAS_IP, reason="needs ip(8)")
def test_nexthop_objects_where_the_kernel_does_not_spell_them_out(space: Namespace, run_dir: Path) -> None:
    with netns.inside(space.name):
        Path("/proc/sys/net/ipv4/nexthop_compat_mode").write_text("0\n")
    space.ip("nexthop", "add", "id", "7", "via", "10.0.0.9", "dev", "eth0")
    space.ip("route", "add", "10.3.0.0/16", "nhid", "7")
    with router(space, run_dir) as running:
        running.wait_until_mirrored()
        by_object = ("unicast", ((space.index("eth0"), "10.0.0.9", 1),), 0)
        assert running.follower.table()["10.3.0.0/16"] == by_object
        space.ip("route", "add", "10.4.0.0/16", "nhid", "7")
        running.wait_until(lambda follower: follower.table().get("10.4.0.0/16") == by_object, "a route added later")
    assert space.setting("nexthop_compat_mode") == "0"


def test_subscribers_are_in_step_again_after_control_was_killed(space: Namespace, running: Router) -> None:
    space.kernel.route("add", dst="10.2.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.2.0.0/16" in follower.routes, "a new route")
    running.control.stop(signal.SIGKILL)
    space.kernel.route("del", dst="10.2.0.0/16")
    space.kernel.route("add", dst="10.3.0.0/16", gateway="10.0.0.9")
    running.start()
    running.wait_until(
        lambda follower: "10.3.0.0/16" in follower.routes and "10.2.0.0/16" not in follower.routes, "the new state"
    )
    assert running.follower.snapshots == 2
    space.kernel.route("add", dst="10.4.0.0/16", gateway="10.0.0.9")
    running.wait_until(lambda follower: "10.4.0.0/16" in follower.routes, "a change after the restart")


def test_what_is_there_at_once_is_published_at_once(space: Namespace, running: Router) -> None:
    running.control.process.send_signal(signal.SIGSTOP)
    for number in range(100):
        space.kernel.route("add", dst=f"10.100.{number}.0/24", gateway="10.0.0.9")
    running.control.process.send_signal(signal.SIGCONT)
    running.wait_until(lambda follower: "10.100.99.0/24" in follower.routes, "all routes")
    assert running.follower.changes <= 2


# --- Start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_gives_the_kernel_back_what_was_its_own(
    space: Namespace, run_dir: Path, number: signal.Signals
) -> None:
    settings = ("ip_forward", "icmp_echo_ignore_all", "conf/eth0/arp_ignore", "conf/eth1/arp_ignore")
    before = [space.setting(name) for name in settings]
    with router(space, run_dir) as running:
        running.wait_until_mirrored()
        assert [space.setting(name) for name in settings] == ["0", "1", "8", "8"]
        space.kernel.link("add", ifname="new0", kind="veth", peer={"ifname": "new1"})
        space.up("new0")
        wait_for(lambda: space.setting("conf/new0/arp_ignore") == "8", "a new interface is taken over")
        assert running.control.stop(number) == 0
        assert [space.setting(name) for name in settings] == before
        assert "Traceback" not in running.control.log()


def test_the_kernel_is_left_alone_on_request(space: Namespace, run_dir: Path) -> None:
    with router(space, run_dir, "--no-kernel-settings") as running:
        running.wait_until_mirrored()
        assert space.setting("icmp_echo_ignore_all") == "0"
        warnings = wait_for(lambda: running.ask("status")["warnings"], "a warning")
        assert any("icmp_echo_ignore_all should be 1" in warning for warning in warnings)


def test_a_second_instance_is_refused_and_the_first_goes_on(running: Router) -> None:
    ended = run_to_end("--run-dir", str(running.endpoints.run_dir), "--metrics-listen", "off")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"hopwire control: control already runs on {running.endpoints.run_dir} (process ")
    assert running.ask("route.show")


def test_bad_settings_end_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("parameters:\n  arp:\n    max_neighbour: 7\n", encoding="utf-8")
    unwritable = tmp_path / "file"
    unwritable.write_text("", encoding="utf-8")
    cases: list[tuple[dict[str, str], str]] = [
        ({"HOPWIRE_CONFIG": str(file)}, f"{file}:3:5: unknown key 'parameters.arp.max_neighbour'; did you mean"),
        ({"HOPWIRE_LOG_LEVEL": "loud"}, "--log-level: 'loud' should be 'debug', 'info', 'warning' or 'error'"),
        ({"HOPWIRE_METRICS_LISTEN": "9100"}, "--metrics-listen: '9100' is not ADDRESS:PORT such as 127.0.0.1:9100"),
        ({"HOPWIRE_RUN_DIR": str(unwritable / "run")}, f"run directory {unwritable / 'run'}: Not a directory; choose"),
    ]
    for variables, message in cases:
        ended = run_to_end(**({"HOPWIRE_RUN_DIR": str(tmp_path / "run")} | variables))
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert line.startswith(f"hopwire control: {message}")
    assert not (tmp_path / "run").exists()


def test_an_endpoint_that_is_none(run_dir: Path) -> None:
    ended = run_to_end("--run-dir", str(run_dir), "--listen", "nowhere", "--metrics-listen", "off")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("hopwire control: cannot listen on 'nowhere': ")


def test_an_unknown_flag_is_a_usage_error() -> None:
    ended = run_to_end("--no-such-flag")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
