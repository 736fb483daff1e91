"""Who may speak with control: by the run directory's permissions, and from other machines by keys only."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from config_rig import PROGRAM, ConfiguredRouter, configured
from control_harness import LIMIT_S, REPOSITORY, Namespace, namespace, wait_for

from services.common import netns
from services.common.curve import load_pair
from services.common.endpoints import prepare_run_dir
from services.common.messages import RpcReply, RpcRequest, decode, encode

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

NOBODY = 65_534
PORT = 7010
SILENCE_MS = 1500
"""How long an answer is waited for that must not come; whoever may ask has one after a hundredth of it."""


@pytest.fixture
def space() -> Iterator[Namespace]:
    with namespace(f"cf{os.getpid()}") as made:
        yield made


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return prepare_run_dir(tmp_path / "run").run_dir


@pytest.fixture
def running(space: Namespace, run_dir: Path) -> Iterator[ConfiguredRouter]:
    with configured(space, run_dir) as made:
        yield made


# --- a second user of the machine -------------------------------------------------------------------------------------

INTRUDER = """
import json, os, socket, stat, sys
run_dir, names, uid = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
succeeded = []

def attempt(what, action):
    try:
        action()
    except (PermissionError, IsADirectoryError):
        return
    except OSError:  # stopped by something else than permissions
        pass
    succeeded.append(what)

attempt("list", lambda: os.listdir(run_dir))
attempt("make", lambda: os.open(run_dir + "/mine", os.O_CREAT | os.O_WRONLY))
for name in names:
    path = f"{run_dir}/{name}"
    attempt(f"read {name}", lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    attempt(f"write {name}", lambda: os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    attempt(f"remove {name}", lambda: os.unlink(path))
    attempt(f"connect {name}", lambda: socket.socket(socket.AF_UNIX).connect(path))
print(json.dumps(succeeded))
"""


def what_a_second_user_can_do(run_dir: Path) -> list[str]:
    names = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*")]
    command = [sys.executable, "-c", INTRUDER, str(run_dir), json.dumps(names), str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    succeeded: list[str] = json.loads(done.stdout)
    return succeeded


def open_the_way_to(folder: Path) -> None:
    """Let others pass through the folders above, as they may above /run/hopwire."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)


def test_a_second_user_can_neither_read_nor_write_anything(running: ConfiguredRouter) -> None:
    run_dir = running.endpoints.run_dir
    running.apply("log_level: info")
    assert run_dir.stat().st_mode & 0o777 == 0o750
    open_the_way_to(run_dir)
    sentinel = run_dir.parent / "reached"
    sentinel.touch(mode=0o644)
    sentinel.chmod(0o644)
    assert what_a_second_user_can_do(run_dir) == []
    assert {path.name for path in run_dir.iterdir()} >= {"control-rpc.sock", "configuration.json", "counters"}


def test_nor_where_the_run_directory_may_be_entered(space: Namespace, tmp_path: Path) -> None:
    open_run_dir = tmp_path / "open"
    open_run_dir.mkdir()
    open_run_dir.chmod(0o755)
    with configured(space, open_run_dir) as running:
        running.apply("log_level: info")
        open_the_way_to(open_run_dir)
        done = what_a_second_user_can_do(open_run_dir)
        assert "list" in done, "the test's own check that it gets as far as that"
        names = {path.name for path in open_run_dir.iterdir() if not path.is_dir()}
        assert not [one for one in done if one.partition(" ")[2] in names]


# --- other machines ---------------------------------------------------------------------------------------------------


def keygen(folder: Path, name: str) -> tuple[Path, str]:
    """Return the file of a new pair of keys, and its public key."""
    file = folder / name
    done = subprocess.run(
        [*PROGRAM, "keygen", str(file)], cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in Path(f"{file}.pub").read_text()
    return file, done.stdout.strip()


class FarClient:
    """control-cli on another machine, played by the router's own namespace without its run directory."""

    def __init__(self, space: Namespace, server_key: str, key: Path) -> None:
        self._space = space
        self._options = ["--connect", f"tcp://10.0.0.1:{PORT}", "--server-key", server_key, "--key", str(key)]

    def cli(self, *words: str, timeout_s: float = LIMIT_S) -> "subprocess.CompletedProcess[str]":
        command = [*PROGRAM, *self._options, "--timeout", str(timeout_s), *words]
        with netns.inside(self._space.name):
            return subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, timeout=2 * LIMIT_S, check=False
            )


def listening(keys: Path, *clients: str) -> str:
    listed = ", ".join(json.dumps(client) for client in clients)
    return f"rpc:\n  listen: tcp://10.0.0.1:{PORT}\n  key_file: {keys}\n  clients: [{listed}]\n"


def test_a_client_of_a_known_key_and_of_an_unknown_one(
    space: Namespace, running: ConfiguredRouter, tmp_path: Path
) -> None:
    server, server_key = keygen(tmp_path, "server.key")
    friend, friend_key = keygen(tmp_path, "friend.key")
    stranger, _ = keygen(tmp_path, "stranger.key")
    text = listening(server, friend_key)
    running.apply(text)

    far = FarClient(space, server_key, friend)
    assert far.cli("route", "add", "10.20.0.0/16", "via", "10.0.0.9").returncode == 0
    (route,) = json.loads(far.cli("-j", "route", "show", "10.20.0.0/16").stdout)
    assert route["gateway"] == "10.0.0.9"
    again = far.cli("route", "add", "10.20.0.0/16", "via", "10.0.0.9")
    assert (again.returncode, again.stderr.startswith("control-cli: File exists: ")) == (1, True)
    monitor = far.cli("monitor")
    assert (monitor.returncode, "not published to other machines" in monitor.stderr) == (2, True)

    for client in (FarClient(space, server_key, stranger), FarClient(space, friend_key, friend)):
        nothing = client.cli("route", "del", "10.20.0.0/16", timeout_s=SILENCE_MS / 1000)
        assert (nothing.returncode, nothing.stdout) == (3, "")
        assert nothing.stderr.startswith(
            f"control-cli: no router at tcp://10.0.0.1:{PORT}: no answer within 1.5 s; check"
        )
    assert running.ask("route.show", dst="10.20.0.0/16") == [route]

    running.apply("")
    assert far.cli("status", timeout_s=SILENCE_MS / 1000).returncode == 3, "off again"
    running.apply(listening(server, friend_key))
    assert far.cli("status").returncode == 0


def test_a_client_changes_the_endpoint_that_it_came_by(
    space: Namespace, running: ConfiguredRouter, tmp_path: Path
) -> None:
    server, server_key = keygen(tmp_path, "server.key")
    friend, friend_key = keygen(tmp_path, "friend.key")
    _, other_key = keygen(tmp_path, "other.key")
    running.apply(listening(server, friend_key))
    far = FarClient(space, server_key, friend)
    file = running.file(listening(server, friend_key, other_key) + "routes: [{dst: 10.20.0.0/16, type: blackhole}]\n")
    applied = far.cli("config", "apply", file, "--confirm", "3600")
    assert (applied.returncode, applied.stderr) == (0, ""), "the answer comes by the new endpoint"
    assert far.cli("config", "confirm").returncode == 0
    assert len(running.ask("config.history")) == 3, "it was carried out once"
    assert running.control.process.poll() is None


def test_a_connection_ends_when_its_key_is_not_known_any_more(
    space: Namespace, running: ConfiguredRouter, tmp_path: Path
) -> None:
    server, server_key = keygen(tmp_path, "server.key")
    (friend, friend_key), (_, other_key) = keygen(tmp_path, "friend.key"), keygen(tmp_path, "other.key")
    running.apply(listening(server, friend_key))
    with netns.inside(space.name):
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.linger = 0
        load_pair(friend).protect_client(dealer, server_key.encode())
        dealer.connect(f"tcp://10.0.0.1:{PORT}")
        try:
            dealer.send(encode(RpcRequest(id=1, method="config.history")))
            assert dealer.poll(int(LIMIT_S * 1000))
            assert isinstance(decode(dealer.recv()), RpcReply)
            running.apply(listening(server, other_key))
            with suppress(zmq.Again):  # which it says if the connection has ended by now
                dealer.send(encode(RpcRequest(id=2, method="config.history")), zmq.NOBLOCK)
            assert not dealer.poll(SILENCE_MS)
        finally:
            context.destroy(linger=0)


@pytest.mark.parametrize("mechanism", ["none", "plain bytes"])
def test_without_keys_nothing_is_answered(
    space: Namespace, running: ConfiguredRouter, tmp_path: Path, mechanism: str
) -> None:
    server, _ = keygen(tmp_path, "server.key")
    _, friend_key = keygen(tmp_path, "friend.key")
    running.apply(listening(server, friend_key))
    with netns.inside(space.name):
        if mechanism == "none":
            context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
            dealer = context.socket(zmq.DEALER)
            dealer.connect(f"tcp://10.0.0.1:{PORT}")
            dealer.send(encode(RpcRequest(id=1, method="status")))
            assert not dealer.poll(SILENCE_MS)
            context.destroy(linger=0)
        else:
            with socket.create_connection(("10.0.0.1", PORT), timeout=LIMIT_S) as plain:
                plain.sendall(b"GET / HTTP/1.0\r\n\r\n" * 10)
                received = b""
                with suppress(ConnectionResetError):
                    while data := plain.recv(4096):
                        received += data
                assert b"rpc-reply" not in received
    assert running.ask("status")["version"]


def test_what_cannot_be_listened_on_is_refused_and_nothing_is_changed(
    space: Namespace, running: ConfiguredRouter, tmp_path: Path
) -> None:
    server, server_key = keygen(tmp_path, "server.key")
    friend, friend_key = keygen(tmp_path, "friend.key")
    first = listening(server, friend_key)
    running.apply(first)
    route = "routes: [{dst: 10.20.0.0/16, type: blackhole}]\n"
    server_copy = tmp_path / "open.key"
    server_copy.write_bytes(server.read_bytes())
    server_copy.chmod(0o644)
    for text, said in (
        (first.replace("10.0.0.1", "192.0.2.1"), "cannot listen on tcp://192.0.2.1:7010: "),
        (first.replace(str(server), "/none.key"), "key file /none.key: No such file or directory; "),
        (first.replace(str(server), str(server_copy)), f"{server_copy}: this secret key is open to others; "),
        (first.replace(str(server), f"{server}.pub"), f"{server}.pub: no pair of keys; "),
    ):
        refused = running.refused("config", "apply", running.file(text + route))
        assert refused.startswith(said)
        assert refused.endswith("; nothing was changed")
        assert running.ask("route.show", dst="10.20.0.0/16") == []
        assert FarClient(space, server_key, friend).cli("status").returncode == 0, "the endpoint of before is open"


def test_its_address_may_come_with_the_same_configuration(space: Namespace, run_dir: Path, tmp_path: Path) -> None:
    server, server_key = keygen(tmp_path, "server.key")
    friend, friend_key = keygen(tmp_path, "friend.key")
    file = tmp_path / "own.yaml"
    text = listening(server, friend_key).replace("10.0.0.1", "10.5.0.1")
    file.write_text(f"addresses: {{eth1: [10.5.0.1/24]}}\n{text}")
    with configured(space, run_dir, "--config", str(file)) as running:
        wait_for(lambda: not running.ask("status")["warnings"], "it is applied")
        far = FarClient(space, server_key, friend)
        far._options[1] = f"tcp://10.5.0.1:{PORT}"
        assert far.cli("status").returncode == 0
