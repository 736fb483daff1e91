"""The program as a person runs it: a process of its own, against a control service played by the test."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from services.common.bus import RpcRefusedError, RpcServer
from services.common.endpoints import Endpoints
from services.common.messages import RpcError

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 30.0
NOBODY = 65534

ROUTES = [{"dst": "10.2.0.0/16", "gateway": "192.168.0.9", "dev": "eth1", "protocol": "static", "flags": []}]
ROUTES_TEXT = "DESTINATION  VIA          DEV   PROTO   SCOPE\n10.2.0.0/16  192.168.0.9  eth1  static  -\n"


class Control:
    """A control service that answers what it was told to, in a thread of its own."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}
        self._context: zmq.Context[Any] = zmq.Context()
        self._server = RpcServer(self._context, Endpoints(run_dir).control_rpc, self._answer)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        self.requests.append((method, params))
        answer = self.answers.get(method, {})
        if isinstance(answer, RpcError):
            raise RpcRefusedError(answer)
        return answer() if callable(answer) else answer

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._server.socket.poll(10):
                self._server.serve()

    def close(self) -> None:
        """Stop the thread and close the socket."""
        self._stop.set()
        self._thread.join()
        self._server.close()
        self._context.term()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    """A control service in a run directory of its own."""
    service = Control(tmp_path)
    yield service
    service.close()


SHELLS_OWN = ("HOPWIRE_RUN_DIR", "NO_COLOR", "PYTHONUNBUFFERED")


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of the program, without what the developer's own shell has set."""
    kept = {name: value for name, value in os.environ.items() if name not in SHELLS_OWN}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **extra}


PROGRAM = [sys.executable, "-m", "services.control.cli"]


def run(*arguments: str, run_dir: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `control-cli` to its end."""
    options = [] if run_dir is None else ["--run-dir", str(run_dir)]
    return subprocess.run(
        [*PROGRAM, *options, *arguments],
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def test_a_table_goes_to_a_pipe_as_plain_text(control: Control) -> None:
    control.answers["route.show"] = ROUTES
    done = run("route", "show", run_dir=control.run_dir)
    assert (done.returncode, done.stdout, done.stderr) == (0, ROUTES_TEXT, "")
    assert control.requests == [("route.show", {})]


def on_terminal(*arguments: str, run_dir: Path, columns: int) -> str:
    """Return what `control-cli` writes to a terminal of so many columns."""
    leader, follower = pty.openpty()
    try:
        command = [*PROGRAM, "--run-dir", str(run_dir), *arguments]
        subprocess.run(command, env=environment(COLUMNS=str(columns)), stdout=follower, timeout=LIMIT_S, check=True)
        return os.read(leader, 65_536).decode().replace("\r\n", "\n")
    finally:
        os.close(leader)
        os.close(follower)


def test_a_terminal_gets_colours_and_lines(control: Control) -> None:
    control.answers["route.show"] = ROUTES
    text = on_terminal("route", run_dir=control.run_dir, columns=100)
    assert "\x1b[1;36mDESTINATION" in text
    assert "───" in text
    assert "192.168.0.9" in text


def test_a_narrow_terminal_folds_names_and_never_numbers(control: Control) -> None:
    control.answers["link.show"] = [
        {"ifindex": 2, "ifname": "eth0", "mtu": 1500, "operstate": "UP", "flags": ["BROADCAST", "MULTICAST", "UP"]}
    ]
    wide = on_terminal("link", run_dir=control.run_dir, columns=100).splitlines()
    narrow = on_terminal("link", run_dir=control.run_dir, columns=45).splitlines()
    assert wide[2].split() == ["2", "eth0", "UP", "1500", "-", "BROADCAST,MULTICAST,UP"]
    assert narrow[2].split()[:5] == ["2", "eth0", "UP", "1500", "-"]
    assert "".join([narrow[2].split()[5], *(line.strip() for line in narrow[3:])]) == "BROADCAST,MULTICAST,UP"
    assert len(narrow) > len(wide)
    numbers = on_terminal("link", run_dir=control.run_dir, columns=10).splitlines()
    assert "1500" in numbers[2].split()


@pytest.mark.parametrize(
    "arguments", [("-j", "r"), ("r", "-j"), ("r", "-json"), ("--json", "r", "s"), ("route", "-j", "show")]
)
def test_json_has_the_keys_of_the_answer_wherever_the_option_stands(
    control: Control, arguments: tuple[str, ...]
) -> None:
    control.answers["route.show"] = ROUTES
    done = run(*arguments, run_dir=control.run_dir)
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout) == ROUTES


def test_pretty_json_is_indented_and_a_single_route_is_in_a_list_as_of_ip(control: Control) -> None:
    control.answers["route.get"] = {"dst": "10.2.3.4"}
    done = run("-p", "route", "get", "10.2.3.4", run_dir=control.run_dir)
    assert (done.returncode, done.stdout) == (0, '[\n    {\n        "dst": "10.2.3.4"\n    }\n]\n')


def test_a_change_is_sent_with_its_params_and_says_nothing(control: Control) -> None:
    done = run("r", "a", "10.0.0.0/8", "via", "10.1.1.1", "metric", "5", run_dir=control.run_dir)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert control.requests == [("route.add", {"dst": "10.0.0.0/8", "via": "10.1.1.1", "metric": 5})]


def test_the_run_directory_comes_from_the_environment(control: Control) -> None:
    assert run("status", HOPWIRE_RUN_DIR=str(control.run_dir / "none")).returncode == 3
    assert run("link", "set", "eth0", "up", HOPWIRE_RUN_DIR=str(control.run_dir)).returncode == 0


def test_what_the_kernel_refuses_is_status_1_with_its_phrase(control: Control) -> None:
    message = "File exists: 10.2.0.0/16 is there already; use `route replace`"
    control.answers["route.add"] = RpcError(code="refused", message=message)
    done = run("route", "add", "10.2.0.0/16", "dev", "eth0", run_dir=control.run_dir)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"control-cli: {message}\n")


def test_a_service_behind_control_that_does_not_answer_is_status_1(control: Control) -> None:
    control.answers["neigh.show"] = RpcError(code="unavailable", message="arp does not answer")
    done = run("neigh", run_dir=control.run_dir)
    assert (done.returncode, done.stderr) == (1, "control-cli: arp does not answer\n")


def test_params_that_control_cannot_read_are_status_2_with_the_usage(control: Control) -> None:
    control.answers["route.show"] = RpcError(code="usage", message="proto foo is unknown")
    done = run("route", "show", "proto", "foo", run_dir=control.run_dir)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "control-cli: proto foo is unknown",
        (
            "usage: control-cli route show [[exact|root|match] PREFIX] [dev NAME] [via ADDRESS] [proto NAME|N] "
            "[scope NAME] [type NAME] [table main|local|all]"
        ),
    ]


def test_a_wrong_token_is_status_2_with_the_usage_and_nobody_is_asked(control: Control) -> None:
    done = run("link", "set", "eth0", "sideways", run_dir=control.run_dir)
    assert (done.returncode, done.stdout, control.requests) == (2, "", [])
    assert done.stderr.splitlines() == [
        (
            'control-cli: link set: "sideways": up, down, mtu, address, reverse-path, martians, directed-broadcast, '
            "redirects or proxy-arp is expected"
        ),
        (
            "usage: control-cli link set [dev] NAME [up|down] [mtu BYTES] [address MAC] "
            "[reverse-path off|loose|strict] [martians strict|linux] [directed-broadcast on|off] [redirects on|off] "
            "[proxy-arp on|off]"
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "an object is expected"),
        (("rule", "show"), '"rule"'),
        (("route", "--sideways"), "--sideways"),
        (("route", "--timeout"), "--timeout"),
        (("route", "--timeout", "soon"), "--timeout"),
        (("route", "--timeout", "0"), "--timeout"),
        (("route", "add", "\udcff"), '"\\udcff"'),
    ],
)
def test_wrong_usage_is_status_2_and_names_what_is_wrong(arguments: tuple[str, ...], named: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def check_no_router(done: subprocess.CompletedProcess[str], run_dir: Path, why: str) -> None:
    """Check that the one line says what was tried and what to do."""
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr == (
        f"control-cli: no router in run directory {run_dir}: {why}; start one with "
        f"`hopwire up --run-dir {run_dir}`, or name another with --run-dir or HOPWIRE_RUN_DIR\n"
    )


def test_no_run_directory_is_status_3(tmp_path: Path) -> None:
    check_no_router(run("status", run_dir=tmp_path / "none"), tmp_path / "none", "it does not exist")


def test_an_empty_run_directory_is_status_3(tmp_path: Path) -> None:
    check_no_router(run("status", run_dir=tmp_path), tmp_path, "there is no control-rpc.sock")


def test_a_run_directory_that_is_a_file_is_status_3(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_no_router(run("status", run_dir=tmp_path / "file"), tmp_path / "file", "Not a directory")


def test_a_path_too_long_for_a_socket_is_status_3(tmp_path: Path) -> None:
    check_no_router(run("status", run_dir=tmp_path / ("x" * 100)), tmp_path / ("x" * 100), "AF_UNIX path too long")


def test_a_control_service_that_was_killed_is_status_3_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "control-rpc.sock"))
    done = run("--timeout", "1000", "status", run_dir=tmp_path)
    check_no_router(done, tmp_path, "its control service has ended")


def test_no_answer_in_time_is_status_3(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "control-rpc.sock"))
        mute.listen()
        done = run("--timeout", "0.2", "route", "add", "default", "dev", "eth0", run_dir=tmp_path)
    check_no_router(done, tmp_path, "no answer within 0.2 s")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_run_directory_is_status_3(control: Control) -> None:
    control.run_dir.chmod(0o750)
    # the interpreter itself may lie where another user cannot read: become one when all is loaded
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from services.control.cli.router import NoRouterError, Request, ask\n"
        f"os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})\n"
        "try:\n    ask(Path(sys.argv[1]), Request('status', {}), 1.0)\n"
        "except NoRouterError as error:\n    print(f'control-cli: {error.message}', file=sys.stderr)\n    sys.exit(3)\n"
    )
    command = [sys.executable, "-c", script, str(control.run_dir)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    check_no_router(done, control.run_dir, "Permission denied (only root and its owner may use it)")


def test_a_reader_that_goes_away_ends_it_quietly(control: Control) -> None:
    control.answers["route.show"] = [{**ROUTES[0], "dst": f"10.{n >> 8}.{n & 255}.0/24"} for n in range(20_000)]
    command = [*PROGRAM, "--run-dir", str(control.run_dir), "route"]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        status = process.wait(LIMIT_S)
    assert first.startswith("DESTINATION")
    assert (status, errors) == (128 + signal.SIGPIPE, "")


def test_a_full_disk_is_said_in_one_line(control: Control) -> None:
    control.answers["route.show"] = ROUTES
    command = [*PROGRAM, "--run-dir", str(control.run_dir), "route"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "control-cli: cannot write to standard output: No space left on device\n"


def test_an_interrupt_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "control-rpc.sock"))
        mute.listen()
        mute.settimeout(LIMIT_S)
        command = [*PROGRAM, "--run-dir", str(tmp_path), "--timeout", "60", "status"]
        with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            probe, _ = mute.accept()
            client, _ = mute.accept()  # now it waits for an answer
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=LIMIT_S)
        probe.close()
        client.close()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_counters_go_through_the_program(control: Control) -> None:
    kinds = ("received", "generated", "sent", "delivered", "consumed", "dropped", "waiting", "in_flight")
    control.answers["counters"] = {
        "services": {"ingress-eth0": {"eth0": {"RX_FRAMES": 1}}, "forwarder": {"eth0": {"DROP_NO_ROUTE": 1}}},
        "interfaces": {"eth0": {"RX_FRAMES": 1, "DROP_NO_ROUTE": 1}},
        "balance": {**dict.fromkeys(kinds, 0), "received": 1, "dropped": 1},
    }
    lines = run("counters", run_dir=control.run_dir).stdout.splitlines()
    assert lines[1].split() == ["eth0", "1", "0", "0", "0", "0", "1", "0", "0", "0"]
    assert lines[4] == "DROP_NO_ROUTE  eth0           1  no route to the destination (ICMP 3/0)"
    assert lines[-1].endswith("= sent 0 + delivered 0 + consumed 0 + dropped 1 + waiting 0: balanced")


@pytest.mark.parametrize("arguments", [("--version",), ("-V",), ("-Version",), ("version",)])
def test_the_version_needs_no_router(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*arguments, run_dir=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("control-cli (hopwire) ")


def test_help_needs_no_router_and_shows_every_verb(tmp_path: Path) -> None:
    done = run("--help", run_dir=tmp_path)
    assert done.returncode == 0
    for verb in ("route {add|replace|del}", "route show", "route get", "addr show", "link set", "neigh show", "status"):
        assert f"control-cli {verb}" in done.stdout
    assert run("addr", "help", run_dir=tmp_path).stdout == (
        "control-cli addr show [[dev] NAME]\n"
        "control-cli addr {add|change|replace|del} ADDRESS/LENGTH dev NAME\n"
        "control-cli addr flush [[dev] NAME] [to PREFIX] [scope NAME]\n"
    )


def completions(line: str, run_dir: Path) -> list[str]:
    """Return what bash would offer at the end of a line."""
    words = line.split(" ")
    done = run(
        _CONTROL_CLI_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
        HOPWIRE_RUN_DIR=str(run_dir),
    )
    return done.stdout.split()


def test_the_shell_completes_words_and_the_routers_interfaces(control: Control) -> None:
    control.answers["link.show"] = [{"ifname": "eth0"}, {"ifname": "eth1"}]
    assert completions("control-cli route re", control.run_dir) == ["replace"]
    assert completions("control-cli -j route add default dev ", control.run_dir) == ["eth0", "eth1"]
    assert completions("control-cli link set e", control.run_dir) == ["eth0", "eth1"]


def test_completion_without_a_router_offers_the_words_it_knows(tmp_path: Path) -> None:
    assert completions("control-cli addr show ", tmp_path) == ["dev"]


def zsh_completions(line: str, run_dir: Path) -> list[str]:
    done = run(_CONTROL_CLI_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line, HOPWIRE_RUN_DIR=str(run_dir))
    return re.findall(r'"([^"]*)"', done.stdout)


def fish_completions(line: str, run_dir: Path) -> list[str]:
    asked = {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_ARGS": line}
    return run(_CONTROL_CLI_COMPLETE="complete_fish", HOPWIRE_RUN_DIR=str(run_dir), **asked).stdout.split()


@pytest.mark.parametrize("offered", [completions, zsh_completions, fish_completions], ids=["bash", "zsh", "fish"])
def test_each_shell_is_offered_objects_verbs_words_and_interfaces(
    control: Control, offered: Callable[[str, Path], list[str]]
) -> None:
    control.answers["link.show"] = [{"ifname": "eth0"}, {"ifname": "eth1"}]
    for line, words in [
        ("control-cli s", ["status", "show"]),
        ("control-cli show ", ["drops", "interfaces", "fib", "help"]),
        ("control-cli route fl", ["flush"]),
        ("control-cli route flush pr", ["protocol"]),
        ("control-cli route get 10.0.0.1 from 10.0.0.2 iif ", ["eth0", "eth1"]),
        ("control-cli counters e", ["eth0", "eth1"]),
        ("control-cli monitor r", ["route"]),
    ]:
        assert offered(line, control.run_dir) == words, line


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    done = run(_CONTROL_CLI_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert f"_CONTROL_CLI_COMPLETE=complete_{shell}" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "control-cli"
    program.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(_CONTROL_CLI_COMPLETE=source_bash control-cli)"\n'
        "COMP_WORDS=(control-cli route fl) COMP_CWORD=2\n"
        "_control_cli_completion control-cli\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(PATH=path), capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert (done.stdout, done.stderr) == ("flush\n", "")


def test_what_needs_no_router_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from services.control.cli.main import main\n"
        "sys.argv = ['control-cli', '--version']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    loaded = done.stdout.splitlines()[-1].split()
    assert "typer" in loaded
    assert not {"zmq", "pydantic", "rich", "numpy", "numba", "pyroute2", "structlog"} & set(loaded)


def test_a_question_loads_no_packet_library(control: Control) -> None:
    script = (
        "import sys\n"
        "from services.control.cli.main import main\n"
        f"sys.argv = ['control-cli', '--run-dir', {str(control.run_dir)!r}, 'route', 'del', 'default']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(end.code)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    status, modules = done.stdout.splitlines()
    assert status == "0"
    assert "zmq" in modules.split()
    assert not {"numpy", "numba", "pyroute2"} & set(modules.split())
