"""Runs the probes in a lab's hosts and returns their reports."""

import json
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any, Final, cast

from services.common.errors import HopwireError
from services.launcher.lab.lab import Lab
from services.launcher.probes.command import USAGE_STATUS
from services.launcher.probes.ping import PingReport
from services.launcher.probes.traceroute import TracerouteReport
from services.launcher.probes.transfer import TransferReport

_PROBE_LIMIT_S: Final = 60.0


def ping(lab: Lab, host: str, destination: IPv4Address, *options: str) -> PingReport:
    """Ping from a host; `options` are the probe's, such as `"--count", "5"`.

    :raises HopwireError: the probe itself fails. Lost answers are no failure.
    """
    return cast(PingReport, _run(lab, host, "ping", [str(destination), *options]))


def traceroute(lab: Lab, host: str, destination: IPv4Address, *options: str) -> TracerouteReport:
    """Trace the path from a host; `options` are the probe's.

    :raises HopwireError: the probe itself fails. A destination that is not reached is no failure.
    """
    return cast(TracerouteReport, _run(lab, host, "traceroute", [str(destination), *options]))


def transfer(lab: Lab, sender: str, receiver: str, size: int, *options: str) -> TransferReport:
    """Move `size` bytes over TCP from one host to another; `options` are the probe's.

    :raises HopwireError: there is no connection, or it breaks. Other bytes than were sent are no failure.
    """
    address = str(lab.topology.address(receiver))
    server = lab.popen(
        receiver,
        _command("transfer", ["server", address, *options]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        if not server.stdout.readline():  # it says when it listens
            _output, errors = server.communicate()
            raise HopwireError(f"on {receiver}: {errors.strip()}")
        arguments = ["client", address, "--bytes", str(size), *options]
        return cast(TransferReport, _run(lab, sender, "transfer", arguments))
    finally:
        lab.end(server)


def _command(probe: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", f"services.launcher.probes.{probe}", "--json", *arguments]


def _run(lab: Lab, host: str, probe: str, arguments: Sequence[str]) -> Any:
    done = lab.run(host, _command(probe, arguments), limit_s=_PROBE_LIMIT_S)
    if done.returncode not in range(USAGE_STATUS):
        raise HopwireError(f"on {host}: {done.stderr.strip() or f'{probe} ended with status {done.returncode}'}")
    return json.loads(done.stdout)
