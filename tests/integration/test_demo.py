"""The demo's own doings (steps, verdict, output, taking down), with a stand-in that lets the kernel forward."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from services.common import netns

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

PREFIX = f"d{os.getpid()}-"

ROUTER = textwrap.dedent("""
    import signal, sys
    from pathlib import Path
    from services.common import netns
    netns.enter(sys.argv[1])
    Path("/proc/sys/net/ipv4/ip_forward").write_text(sys.argv[2])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[3])))
    print("ready", flush=True)
    while True:
        signal.pause()
""")

DEMO = textwrap.dedent("""
    import sys
    from services.launcher import demo
    from services.launcher.lab import router
    prefix, router_program, forwarding, status, counters = sys.argv[1:]
    demo._PREFIX = prefix
    router.up_command = lambda namespace, _: [sys.executable, "-c", router_program, namespace, forwarding, status]
    demo._counters = lambda _lab, _width: demo.Outcome(counters == "good", "the stand-in's", "received 1")
    sys.exit(demo.run_demo())
""")


def start(
    *, forwarding: bool = True, status: int = 0, counters: str = "good", encoding: str = "utf-8"
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", DEMO, PREFIX, ROUTER, str(int(forwarding)), str(status), counters]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )


def marks(output: str) -> dict[str, str]:
    """Return the mark of each step by its title."""
    lines = [line.partition(" ") for line in output.splitlines() if line[:1] in ("✓", "✗")]
    return {rest.partition(":")[0]: mark for mark, _, rest in lines}


def nothing_is_left() -> bool:
    return not [name for name in netns.names() if name.startswith(PREFIX)]


STEPS = [
    "router with no configuration",
    "ping host1 -> host2",
    "ping host2 -> host1",
    "traceroute host1 -> host2",
    "TCP host1 -> host2",
    "the router's counters",
    "router stopped",
]


def test_all_works() -> None:
    demo = start()
    output, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (0, "")
    assert marks(output) == dict.fromkeys(STEPS, "✓")
    assert "\x1b" not in output
    assert "\r" not in output
    assert "     1  192.168.1.1  " in output
    assert "     2  192.168.0.2  " in output
    assert "100.0 MB in " in output
    assert "SHA-256 equal" in output
    assert "\nreceived 1\n" in output
    assert nothing_is_left()


def test_output_in_ascii() -> None:
    demo = start(encoding="ascii")
    output, _errors = demo.communicate(timeout=60)
    assert demo.returncode == 0
    assert output.isascii()
    assert "OK   ping host1 -> host2: 5 sent, 5 received, 0 lost" in output


def test_counters_that_fail() -> None:
    demo = start(counters="bad")
    output, _errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert marks(output) == {**dict.fromkeys(STEPS, "✓"), "the router's counters": "✗"}
    assert nothing_is_left()


def test_traffic_that_does_not_pass() -> None:
    demo = start(forwarding=False)
    output, _errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    works = {"router with no configuration", "the router's counters", "router stopped"}
    assert marks(output) == {step: "✓" if step in works else "✗" for step in STEPS}
    assert "ping host1 -> host2: 5 sent, 0 received, 5 lost\n" in output
    assert "traceroute host1 -> host2: not the path 192.168.1.1 192.168.0.2\n" in output
    assert "TCP host1 -> host2: on host1: transfer: the transfer to 192.168.0.2 port 5001" in output
    assert "not everything worked; everything is taken down" in output
    assert nothing_is_left()


def test_router_that_stops_badly() -> None:
    demo = start(status=3)
    output, _errors = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert marks(output) == {**dict.fromkeys(STEPS, "✓"), "router stopped": "✗"}
    assert "router stopped: ended with status 3" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_signal(number: int) -> None:
    demo = start()
    assert demo.stdout is not None
    seen = ""
    while "ready after" not in seen:
        line = demo.stdout.readline()
        assert line, seen
        seen += line
    routers = [process for process in Path("/proc").glob("[0-9]*") if is_router(process)]
    assert len(routers) == 1
    demo.send_signal(number)
    output, errors = demo.communicate(timeout=30)
    assert demo.returncode == 128 + number
    assert "interrupted; everything is taken down" in output
    assert errors == ""
    assert nothing_is_left()
    assert not is_router(routers[0])


def is_router(process: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return ROUTER.encode() in words and f"{PREFIX}router".encode() in words and DEMO.encode() not in words


def test_name_taken() -> None:
    first = start()
    assert first.stdout is not None
    while "ready after" not in first.stdout.readline():
        assert first.poll() is None
    second = start()
    output, _errors = second.communicate(timeout=60)
    assert second.returncode == 1
    assert f"network namespace {PREFIX}host1, {PREFIX}host2, {PREFIX}router exists already" in output
    first.communicate(timeout=60)
    assert first.returncode == 0
