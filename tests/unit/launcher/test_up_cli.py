"""The program `hopwire`: its command line, the services' command lines, the line that says ready."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.common.endpoints import Endpoints
from services.launcher.status import InterfaceStatus, RouterStatus
from services.launcher.up.fork_protocol import Order
from services.launcher.up.readiness import ready_line
from services.launcher.up.router import service_order
from services.launcher.up.run_directory import default_run_dir
from services.launcher.up.settings import Settings

LIMIT_S = 30.0


def hopwire(*arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "services.launcher", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Missing command"),
        (("nope",), "No such command 'nope'"),
        (("up", "--netns"), "Option '--netns' requires an argument"),
        (("up", "--no-such-option"), "No such option: --no-such-option"),
        (("up", "eth0"), "Got unexpected extra argument(s) (eth0)"),
        (("bench", "--rounds", "none"), "Invalid value for '--rounds'"),
        (("bench", "--nat", "--floods"), "Invalid value: --floods and --nat are measured one at a time"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(arguments: tuple[str, ...], words: str) -> None:
    status, output, errors = hopwire(*arguments)
    assert (status, output) == (2, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"hopwire: {words}")
    assert line.endswith("; see: hopwire --help")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--log-level", "loud"), "log level 'loud' is unknown; choose debug, info, warning or error"),
        (
            ("lab", "star"),
            "topology 'star' does not exist; choose one of: pair, three-routers, nat, ospf-ring, bgp-ecmp",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_1(arguments: tuple[str, ...], words: str) -> None:
    assert hopwire(*arguments) == (1, "", f"hopwire: {words}\n")


def test_help_names_the_commands_and_loads_none_of_them() -> None:
    status, output, _errors = hopwire("--help")
    assert status == 0
    for command in ("up", "lab", "demo", "bench", "doctor", "version"):
        assert f" {command} " in output
    code = (
        "import sys; sys.argv[1:] = ['--help']; from services.launcher.main import main\n"
        "try: main()\n"
        "finally: print([name for name in ('zmq', 'numpy', 'pyroute2', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.stdout.splitlines()[-1] == "[]"


def test_version_is_one_line() -> None:
    status, output, errors = hopwire("version")
    assert (status, errors) == (0, "")
    assert output.startswith("hopwire")
    assert output.count("\n") == 1


def test_each_namespace_has_a_run_directory_of_its_own() -> None:
    assert default_run_dir(None) == Path("/run/hopwire")
    assert default_run_dir("blue") == Path("/run/hopwire-blue")


def test_what_the_services_are_to_run() -> None:
    endpoints = Endpoints(Path("/run/x"))
    settings = Settings(config=Path("router.yaml"), log_level="debug", metrics_listen="127.0.0.1:9100")
    common = ("--run-dir", "/run/x", "--log-level", "debug")
    assert service_order("arp", endpoints, settings) == Order("arp", "services.arp", common)
    assert service_order("ingress-wan-1", endpoints, settings) == Order(
        "ingress-wan-1", "services.ingress", (*common, "--interface", "wan-1")
    )
    assert service_order("control", endpoints, settings) == Order(
        "control", "services.control", (*common, "--config", "router.yaml", "--metrics-listen", "127.0.0.1:9100")
    )
    assert service_order("control", endpoints, Settings()) == Order(
        "control", "services.control", ("--run-dir", "/run/x")
    )


def test_the_ready_line_names_interfaces_addresses_routes_and_time() -> None:
    interfaces = [
        InterfaceStatus(name="eth0", addresses=["192.168.1.1/24", "10.0.0.1/8"], forwarding=True),
        InterfaceStatus(name="eth1", addresses=[], forwarding=True),
        InterfaceStatus(name="eth2", addresses=["192.168.7.1/24"], forwarding=False),
    ]
    status = RouterStatus(ready=True, waiting_for=[], warnings=[], routes=12, interfaces=interfaces, services=[])
    assert ready_line(status, 1.234) == (
        "hopwire ready: eth0 192.168.1.1/24 10.0.0.1/8, eth1 without address (12 routes) in 1.2 s"
    )
    assert ready_line(status.model_copy(update={"routes": 1}), 0.06).endswith(" (1 route) in 0.1 s")
