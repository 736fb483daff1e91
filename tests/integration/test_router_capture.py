"""control-cli capture on a running router, read with the real tshark."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from router_lab import Control, RouterLab, hopwire, wait_for
from router_traffic import Wire
from test_router_control_cli import HOST2, answers

from services.common.endpoints import Endpoints
from services.launcher.lab import measure

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark"),
]

LIMIT_S = 30.0
NOWHERE = "10.9.0.77"
"""An address without a route."""
IN, OUT = "0x00000001", "0x00000002"
FIELDS = (
    "frame.interface_name",
    "frame.packet_flags_direction",
    "frame.comment",
    "ip.src",
    "ip.dst",
    "icmp.type",
    "arp.opcode",
    "frame.time_epoch",
    "ip.ttl",
)


@pytest.fixture
def control(pair: RouterLab) -> Control:
    return pair.control()


@contextmanager
def capturing(control: Control, *words: str, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `capture`, which has begun when this is entered, and end it as Ctrl-C does."""
    command = [hopwire("control-cli"), "--run-dir", str(control.run_dir), "capture", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, **options)
    assert process.stderr is not None
    try:
        assert b"capturing to" in process.stderr.readline()
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        try:
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def frames_in(path: Path, *display: str) -> list[dict[str, str]]:
    """Return what tshark reads from a file."""
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=|"]
    command += [word for field in FIELDS for word in ("-e", field)] + (["-Y", *display] if display else [])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [dict(zip(FIELDS, line.split("|"), strict=True)) for line in done.stdout.splitlines()]


def summary_of(process: "subprocess.Popen[bytes]") -> bytes:
    """Return what it said at its end."""
    assert process.stderr is not None
    return process.stderr.read()


class TestFile:
    def test_a_ping_is_seen_on_both_interfaces_in_both_directions(
        self, pair: RouterLab, control: Control, tmp_path: Path
    ) -> None:
        path = tmp_path / "all.pcapng"
        assert answers(pair, str(HOST2)), "the neighbours are known"
        with capturing(control, "icmp", "and", "host", str(HOST2), "-w", str(path)) as process:
            began = time.time()
            assert answers(pair, str(HOST2))
            wait_for("four frames", lambda: len(frames_in(path)) >= 4)
        assert summary_of(process) == b"control-cli: 4 frames captured, 0 missed\n"
        assert process.returncode == 0
        seen = frames_in(path)
        assert {
            (one["frame.interface_name"], one["frame.packet_flags_direction"], one["icmp.type"]) for one in seen
        } == {
            ("eth0", IN, "8"),
            ("eth1", OUT, "8"),
            ("eth1", IN, "0"),
            ("eth0", OUT, "0"),
        }
        ttl = {one["frame.interface_name"]: one["ip.ttl"] for one in seen if one["icmp.type"] == "8"}
        assert ttl == {"eth0": "64", "eth1": "63"}
        for one in seen:
            seconds, _, fraction = one["frame.time_epoch"].partition(".")
            assert began - 5 < int(seconds) < began + LIMIT_S
            assert len(fraction) == 9, "nanoseconds"

    def test_arp_and_one_interface_only(self, pair: RouterLab, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "arp.pcapng"
        with capturing(control, "eth0", "arp", "-w", str(path)):
            assert not answers(pair, "192.168.1.99"), "asked for on the sender's own link"
            with Wire(pair, "host1") as wire:
                own = bytes.fromhex(wire.mac.replace(":", ""))
                request = bytes.fromhex("0001080006040001") + own + bytes([192, 168, 1, 2]) + bytes(6)
                wire.send(b"\xff" * 6 + own + b"\x08\x06" + request + bytes([192, 168, 1, 1]) + bytes(18))
                wait_for("the answer is in the file", lambda: "2" in [one["arp.opcode"] for one in frames_in(path)])
        seen = frames_in(path)
        assert {one["frame.interface_name"] for one in seen} == {"eth0"}
        assert {(one["arp.opcode"], one["frame.packet_flags_direction"]) for one in seen} >= {("1", IN), ("2", OUT)}

    def test_drops_bear_their_reason(self, pair: RouterLab, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "drops.pcapng"
        with capturing(control, "drops", "-w", str(path)) as process:
            assert answers(pair, str(HOST2)), "which is no drop"
            measure.ping(pair, "host1", IPv4Address(NOWHERE), "--count", "1", "--timeout", "1")
            with Wire(pair, "host1") as wire:
                to = bytes.fromhex(control.mac("eth0").replace(":", ""))
                wire.send(to + bytes.fromhex(wire.mac.replace(":", "")) + b"\x08\x00" + b"\x65" + bytes(45))
            wait_for("two drops", lambda: len(frames_in(path)) >= 2)
        comments = {one["frame.comment"] for one in frames_in(path)}
        assert comments == {
            "DROP_NO_ROUTE: no route to the destination (ICMP 3/0)",
            "DROP_IP_VERSION: the version is not 4",
        }
        assert b"2 frames captured, 0 missed" in summary_of(process)

    def test_it_ends_after_so_many(self, pair: RouterLab, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "some.pcapng"
        with capturing(control, "icmp", "-w", str(path), "-c", "3") as process:
            assert answers(pair, str(HOST2))
            assert process.wait(LIMIT_S) == 0
        assert len(frames_in(path)) == 3

    def test_the_closing_blocks_say_what_was_captured(self, pair: RouterLab, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "stat.pcapng"
        with capturing(control, "-w", str(path), "-c", "2"):
            assert answers(pair, str(HOST2))
        done = subprocess.run(
            [sys.executable, "-c", _BLOCKS, str(path)], capture_output=True, text=True, timeout=30, check=True
        )
        kinds = json.loads(done.stdout)
        assert kinds[0] == 0x0A0D0D0A
        assert kinds.count(6) == 2
        assert kinds[-2:] == [5, 5], "statistics of both interfaces"

    def test_a_restarted_forwarder_is_captured_again(self, pair: RouterLab, control: Control, tmp_path: Path) -> None:
        path = tmp_path / "restart.pcapng"
        with capturing(control, "icmp", "-w", str(path)):
            control.kill("forwarder")
            wait_for("frames are seen again", lambda: answers(pair, str(HOST2)) and len(frames_in(path)) >= 4, LIMIT_S)


_BLOCKS = """
import json, struct, sys
data, kinds = open(sys.argv[1], "rb").read(), []
while data:
    kind, length = struct.unpack_from("=II", data)
    kinds.append(kind)
    data = data[length:]
print(json.dumps(kinds))
"""


class TestPipe:
    def test_into_tshark(self, pair: RouterLab, control: Control) -> None:
        with capturing(control, "icmp", "-w", "-", stdout=subprocess.PIPE) as process:
            tshark = subprocess.Popen(
                ["tshark", "-l", "-r", "-", "-T", "fields", "-e", "ip.src", "-e", "frame.interface_name"],
                stdin=process.stdout,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            assert answers(pair, str(HOST2))
        assert process.stdout is not None
        process.stdout.close()
        shown, _ = tshark.communicate(timeout=LIMIT_S)
        assert set(shown.split("\n")) >= {"192.168.1.2\teth0", "192.168.1.2\teth1", "192.168.0.2\teth0"}

    def test_a_reader_that_goes_away_ends_it(self, pair: RouterLab, control: Control) -> None:
        with capturing(control, "-w", "-", stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert answers(pair, str(HOST2))
            assert process.wait(LIMIT_S) == 141
        wait_for("its taps are gone", lambda: not taps(control))

    def test_a_reader_that_does_not_read_holds_nothing_up(self, pair: RouterLab, control: Control) -> None:
        """The pipe is full, the tap is full: the router goes on, and what was missed is counted."""
        with capturing(control, "eth0", "-w", "-", stdout=subprocess.PIPE) as process:
            report = measure.transfer(pair, "host1", "host2", 60 << 20)
            assert report["intact"]
            assert answers(pair, str(HOST2))
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0, "and it can be ended"
        assert process.stdout is not None
        process.stdout.close()
        missed = int(summary_of(process).split()[-2])
        assert missed > 0
        assert not taps(control)

    def test_a_client_that_was_stopped_or_killed_leaves_the_router_alone(
        self, pair: RouterLab, control: Control, tmp_path: Path
    ) -> None:
        with capturing(control, "-w", str(tmp_path / "x.pcapng")) as process:
            process.send_signal(signal.SIGSTOP)
            assert answers(pair, str(HOST2))
            process.kill()
            wait_for("the services let go of the taps", lambda: not taps(control))
            assert answers(pair, str(HOST2))


def taps(control: Control) -> list[Path]:
    return list((Endpoints(control.run_dir).taps("forwarder").parent).glob("*/*.tap"))


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "status", "error"),
        [
            (("host", "1.2.3", "-w", "-"), 2, 'capture: "1.2.3": an IPv4 address is expected after "host"'),
            (("eth0", "tcp", "porr", "80", "-w", "-"), 2, 'capture: "porr": "and" or "or" is expected'),
            (("(tcp", "-w", "-"), 2, 'capture: the command line is not complete: ")", "and" or "or" is expected'),
            (("eth0",), 2, 'a file to write to is expected after "-w"'),
            (("eth0", "eth1", "-w", "-"), 2, 'capture: "eth1": '),
            (("nosuch", "-w", "-"), 1, "No such device: nosuch; there are: "),
            (("lo", "-w", "-"), 1, "lo is no interface of the router's; there are: eth0, eth1"),
            (("-w", "/nosuch/x.pcapng"), 1, "cannot write /nosuch/x.pcapng: No such file or directory"),
            (("-w", "/"), 1, "cannot write /: Is a directory"),
            (("-w", "/dev/full"), 1, "cannot write /dev/full: No space left on device"),
            (("-c", "0", "-w", "-"), 2, "-c"),
        ],
    )
    def test_a_clear_line_and_the_status(
        self, control: Control, words: tuple[str, ...], status: int, error: str
    ) -> None:
        done = control.cli("capture", *words)
        assert (done.returncode, done.stdout) == (status, "")
        assert error in done.stderr
        assert "Traceback" not in done.stderr
        assert not taps(control)

    def test_no_router_there(self, tmp_path: Path) -> None:
        for words in (["capture", "-w", "-"], ["trace"], ["drops"], ["why", "10.0.0.1", "10.0.0.2"]):
            done = Control(tmp_path / "nobody").cli(*words)
            assert (done.returncode, done.stdout) == (3, "")
            assert done.stderr.startswith("control-cli: no router in run directory ")

    @pytest.mark.parametrize("words", [("status", "-w", "x"), ("status", "-c", "3"), ("trace", "-w", "x")])
    def test_the_options_mean_nothing_elsewhere(self, control: Control, words: tuple[str, ...]) -> None:
        done = control.cli(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f'control-cli: "{words[1]}": only capture')
