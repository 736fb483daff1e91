"""`hopwire up` in a real namespace, with small programs in place of the services."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute
from pyroute2 import netns as pyroute2_netns

from services.common import netns
from services.common.kernel_settings import record_path

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

LIMIT_S = 30.0
NAMESPACE = f"upt{os.getpid()}"

# What a service does: it writes its process id to a file, waits for SIGTERM, adds its name to another, and ends.
# A file `INSTANCE.does` changes that. All these are beside the run directory, not in it.
SERVICE = """
    import os, signal, sys
    from pathlib import Path
    instance, run_dir = sys.argv[1], Path(sys.argv[2])
    trace = run_dir.with_suffix(".trace")
    does = trace / f"{instance}.does"
    does = does.read_text() if does.exists() else ""
    lock = open(run_dir / f"{instance}.lock", "a+")
    if does == "fail":
        sys.exit(f"fake {instance}: line 3 of the configuration is wrong")

    def stop(*_):
        with open(trace / "stopped", "a") as file:
            file.write(instance + "\\n")
        os._exit(0)

    signal.signal(signal.SIGTERM, signal.SIG_IGN if does == "hang" else stop)
    if instance == "control":
        from fake.service import serve
        serve(run_dir, trace, take=does == "take")
    (trace / f"{instance}.new").write_text(str(os.getpid()))
    (trace / f"{instance}.new").rename(trace / f"{instance}.pid")  # whole or not at all: it may be killed
    while True:
        signal.pause()
"""

# Control answers `status`: ready as soon as every interface has its ingress; a file takes the carriers away.
CONTROL = """
    import os
    import zmq
    from services.common.bus import RpcServer
    from services.common.endpoints import Endpoints
    from services.common.interfaces import list_interfaces
    from services.common.kernel_settings import KernelOwnership, record_path

    def serve(run_dir, trace, take):
        if take:
            KernelOwnership(record_path(run_dir)).take(["v0"])

        def status(_method, _params):
            usable = [one for one in list_interfaces() if one.is_usable]
            with open(trace / "asked", "a") as file:
                file.write(".")
            carrier = not (trace / "no-carrier").exists()
            missing = [one.name for one in usable if not (trace / f"ingress-{one.name}.pid").exists()]
            return {
                "ready": not missing, "waiting_for": missing, "warnings": [], "services": [], "routes": 1,
                "interfaces": [
                    {"name": one.name, "addresses": [str(address) for address in one.addresses], "forwarding": carrier}
                    for one in usable
                ],
            }

        server = RpcServer(zmq.Context(), Endpoints(run_dir).control_rpc, status)
        (trace / "control.new").write_text(str(os.getpid()))
        (trace / "control.new").rename(trace / "control.pid")
        while True:
            server.socket.poll()
            server.serve()
"""

LAUNCHER = """
    import sys
    from pathlib import Path
    from services.common.runtime import run_to_exit
    from services.launcher.up import router, run
    from services.launcher.up.fork_protocol import Order
    from services.launcher.up.settings import Settings
    run.PACKAGES = ("fake",)
    router.service_order = lambda instance, endpoints, _settings: Order(
        instance, "fake", (instance, str(endpoints.run_dir))
    )
    sys.exit(run_to_exit("hopwire", lambda: run.run_up(Settings({namespace!r}, Path(sys.argv[1])))))
"""


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def trace_of(run_dir: Path) -> Path:
    folder = run_dir.with_suffix(".trace")
    folder.mkdir(exist_ok=True)
    return folder


class Up:
    """One run of the launcher."""

    def __init__(self, folder: Path, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.trace = trace_of(run_dir)
        self._out, self._err = folder / f"{run_dir.name}.out", folder / f"{run_dir.name}.err"
        with self._out.open("ab") as out, self._err.open("ab") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(folder / "launcher.py"), str(run_dir)],
                stdout=out,
                stderr=err,
                env=os.environ | {"PYTHONPATH": f"{Path.cwd()}:{folder}"},
            )

    @property
    def output(self) -> str:
        return self._out.read_text()

    @property
    def errors(self) -> str:
        return self._err.read_text()

    def wait_until_ready(self) -> None:
        wait_for(lambda: "ready" in self.output)

    def pid(self, instance: str) -> int:
        """The process of an instance, once there is one that runs."""
        file = self.trace / f"{instance}.pid"
        found = 0

        def is_there() -> bool:
            nonlocal found
            found = int(file.read_text() or 0) if file.exists() else 0
            return found != 0 and lives(found)

        wait_for(is_there)
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)

    def stopped(self) -> list[str]:
        return (self.trace / "stopped").read_text().split()


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace with v0 (10.9.0.1/24), which is up, and its peer v1, which is down."""
    pyroute2_netns.create(NAMESPACE)
    try:
        with netns.inside(NAMESPACE):
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with IPRoute(netns=NAMESPACE, flags=0) as kernel:
            kernel.link("add", kind="veth", ifname="v0", peer="v1")
            (index,) = kernel.link_lookup(ifname="v0")
            kernel.addr("add", index=index, address="10.9.0.1", prefixlen=24)
            kernel.link("set", index=index, state="up")
        yield NAMESPACE
    finally:
        pyroute2_netns.remove(NAMESPACE)


def set_link(name: str, state: str) -> None:
    with IPRoute(netns=NAMESPACE, flags=0) as kernel:
        kernel.link("set", index=kernel.link_lookup(ifname=name)[0], state=state)


@pytest.fixture
def launch(namespace: str, tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts launchers; what is still there at the end is killed."""
    folder = tmp_path / "programs"
    (folder / "fake").mkdir(parents=True)
    launcher = LAUNCHER.format(namespace=namespace)
    programs = {
        "fake/__init__.py": "",
        "fake/__main__.py": SERVICE,
        "fake/service.py": CONTROL,
        "launcher.py": launcher,
    }
    for name, text in programs.items():
        (folder / name).write_text(textwrap.dedent(text))
    started: list[Up] = []

    def start(run_dir: Path = tmp_path / "run") -> Up:
        started.append(Up(folder, run_dir))
        return started[-1]

    try:
        yield start
    finally:
        for up in started:
            up.process.kill()
            up.process.wait()
        for up in started:
            for pid in (int(file.read_text()) for file in up.trace.glob("*.pid")):
                if lives(pid):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory that is there already."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o750)
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_says_one_line_when_ready_and_stops_in_order(
    launch: Callable[..., Up], run_dir: Path, number: signal.Signals
) -> None:
    up = launch()
    up.wait_until_ready()
    services = [up.pid(name) for name in ("control", "arp", "forwarder", "ingress-v0")]
    assert up.stop(number) == 0
    assert [lives(pid) for pid in services] == [False] * 4
    assert up.stopped() == ["ingress-v0", "forwarder", "arp", "control"]
    (line,) = up.output.splitlines()
    start, _, seconds = line.rpartition(" in ")
    assert start == "hopwire ready: v0 10.9.0.1/24 (1 route)"
    assert seconds.endswith(" s")
    assert float(seconds.removesuffix(" s")) > 0


def test_leaves_nothing_behind_in_a_run_directory_of_others(launch: Callable[..., Up], run_dir: Path) -> None:
    for name in ("notes.txt", "other.lock", "other.sock"):
        (run_dir / name).touch()
    up = launch()
    up.wait_until_ready()
    for folder, name in (("rings", "v0.ring"), ("rings", "v0.new"), ("counters", "arp.bin")):
        (run_dir / folder).mkdir(exist_ok=True)
        (run_dir / folder / name).touch()
    assert (run_dir / "control-rpc.sock").is_socket()
    assert up.stop() == 0
    assert {path.name for path in run_dir.iterdir()} == {"notes.txt", "other.lock", "other.sock"}


def test_clears_what_an_earlier_run_left_before_it_starts(launch: Callable[..., Up], run_dir: Path) -> None:
    (run_dir / "counters").mkdir()
    (run_dir / "counters" / "arp.bin").write_text("old")
    (run_dir / "ingress-gone.lock").touch()
    up = launch()
    up.wait_until_ready()
    assert not (run_dir / "counters").exists()
    assert not (run_dir / "ingress-gone.lock").exists()


def test_removes_a_run_directory_that_it_made(launch: Callable[..., Up], tmp_path: Path) -> None:
    up = launch(tmp_path / "made")
    up.wait_until_ready()
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o750
    assert up.stop() == 0
    assert not (tmp_path / "made").exists()


def test_restarts_a_service_that_is_killed(launch: Callable[..., Up], run_dir: Path) -> None:
    up = launch()
    up.wait_until_ready()
    for instance in ("arp", "ingress-v0", "control", "arp"):
        pid = up.pid(instance)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda instance=instance, pid=pid: up.pid(instance) != pid)  # type: ignore[misc]
    assert up.errors.count("service died") == 4
    assert up.stop() == 0
    assert up.output.count("ready") == 1


def test_follows_interfaces_that_come_up_go_down_and_vanish(launch: Callable[..., Up], run_dir: Path) -> None:
    up = launch()
    up.wait_until_ready()
    assert not (up.trace / "ingress-v1.pid").exists(), "it is down"
    set_link("v1", "up")
    first = up.pid("ingress-v1")
    set_link("v1", "down")
    os.kill(first, signal.SIGKILL)  # it would have gone on, and is not started again before there is use for it
    wait_for(lambda: not lives(first))
    set_link("v1", "up")
    wait_for(lambda: up.pid("ingress-v1") != first)
    second = up.pid("ingress-v1")
    set_link("v1", "down")
    set_link("v1", "up")
    assert up.pid("ingress-v1") == second
    ingress = up.pid("ingress-v0")
    with IPRoute(netns=NAMESPACE, flags=0) as kernel:
        kernel.link("del", index=kernel.link_lookup(ifname="v1")[0])
    wait_for(lambda: not lives(second) and not lives(ingress))
    assert up.stop() == 0


def test_waits_for_an_interface_where_there_is_none(launch: Callable[..., Up], run_dir: Path) -> None:
    set_link("v0", "down")
    up = launch()
    up.pid("control")
    wait_for(lambda: up.output)
    assert up.output == "hopwire waits for an Ethernet interface that is up (ip link set NAME up)\n"
    set_link("v0", "up")
    up.wait_until_ready()
    assert up.stop() == 0


def test_is_not_ready_before_an_interface_forwards(launch: Callable[..., Up], run_dir: Path) -> None:
    no_carrier = trace_of(run_dir) / "no-carrier"
    no_carrier.touch()
    up = launch()
    up.pid("ingress-v0")
    asked = up.trace / "asked"
    before = len(asked.read_text()) if asked.exists() else 0
    wait_for(lambda: asked.exists() and len(asked.read_text()) > before + 2)
    assert up.output == ""
    no_carrier.unlink()
    up.wait_until_ready()


def test_a_service_that_cannot_start_stops_the_router(launch: Callable[..., Up], run_dir: Path) -> None:
    (trace_of(run_dir) / "control.does").write_text("fail")
    up = launch()
    assert up.process.wait(LIMIT_S) == 1
    assert up.output == ""
    assert up.errors == "fake control: line 3 of the configuration is wrong\n"
    assert not any(lives(int(file.read_text())) for file in up.trace.glob("*.pid"))


def test_a_service_that_ignores_sigterm_is_killed(launch: Callable[..., Up], run_dir: Path) -> None:
    (trace_of(run_dir) / "arp.does").write_text("hang")
    up = launch()
    up.wait_until_ready()
    pid = up.pid("arp")
    assert up.stop() == 0
    assert not lives(pid)
    assert up.stopped() == ["ingress-v0", "forwarder", "control"]
    assert "does not heed SIGTERM" in up.errors


def ip_forward() -> str:
    with netns.inside(NAMESPACE):
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()


def test_restores_the_kernel_when_control_has_not(launch: Callable[..., Up], run_dir: Path) -> None:
    with netns.inside(NAMESPACE):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    (trace_of(run_dir) / "control.does").write_text("take")
    up = launch()
    up.wait_until_ready()
    assert ip_forward() == "0"
    assert up.stop() == 0
    assert ip_forward() == "1"
    assert not record_path(run_dir).exists()


def test_a_second_one_on_the_same_run_directory_or_namespace_gets_one_line(
    launch: Callable[..., Up], run_dir: Path, tmp_path: Path
) -> None:
    first = launch()
    first.wait_until_ready()
    second = launch(run_dir)
    assert second.process.wait(LIMIT_S) == 1
    (line,) = [line for line in second.errors.splitlines() if line.startswith("hopwire:")]
    assert line == (
        f"hopwire: launcher already runs on {run_dir} (process {first.process.pid}); "
        "stop it, or choose another --run-dir"
    )
    third = launch(tmp_path / "elsewhere")
    assert third.process.wait(LIMIT_S) == 1
    assert third.errors == (
        "hopwire: another `hopwire up` routes in this network namespace, and two would forward every frame twice; "
        "stop it first\n"
    )
    assert not (tmp_path / "elsewhere").exists()
    assert lives(first.pid("control"))
    assert first.stop() == 0


def test_starts_again_where_a_launcher_was_killed(launch: Callable[..., Up], run_dir: Path) -> None:
    up = launch()
    up.wait_until_ready()
    pids = [up.pid(name) for name in ("control", "arp", "forwarder", "ingress-v0")]
    up.process.kill()
    up.process.wait()
    again = launch()
    wait_for(lambda: again.output.count("ready") == 2)
    wait_for(lambda: not any(lives(pid) for pid in pids))
    assert again.stop() == 0


def test_does_not_start_while_a_service_of_an_earlier_run_lives(launch: Callable[..., Up], run_dir: Path) -> None:
    code = f"""
        import fcntl
        file = open({str(run_dir / "arp.lock")!r}, "w")
        print("77", file=file, flush=True)
        fcntl.flock(file, fcntl.LOCK_EX)
        print("locked", flush=True)
        input()
    """
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        up = launch()
        assert up.process.wait(LIMIT_S) == 1
        assert up.errors == (
            f"hopwire: arp already runs on {run_dir} (process 77); stop it, or choose another --run-dir\n"
        )
    finally:
        holder.kill()
        holder.communicate()


def test_an_unknown_namespace_is_one_line() -> None:
    command = [sys.executable, "-m", "services.launcher", "up", "--netns", "no-such-namespace"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("hopwire: network namespace 'no-such-namespace' does not exist")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv of util-linux takes the capabilities away")
def test_missing_capabilities_are_one_line(tmp_path: Path) -> None:
    command = ["setpriv", "--bounding-set=-net_raw", sys.executable, "-m", "services.launcher", "up"]
    done = subprocess.run(
        [*command, "--run-dir", str(tmp_path / "run")], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("hopwire: CAP_NET_RAW missing; run it as root, with sudo, or give the container cap_add\n")
    assert not (tmp_path / "run").exists()
