"""`hopwire lab`: a lab that stays until it is told to stop."""

import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from services.common import netns
from services.common.errors import HopwireError
from services.launcher.lab.builder import DEFAULT_PREFIX
from services.launcher.lab.daemons import RouterDaemons
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR, named_topology

_CHECK_INTERVAL_S: Final = 0.5


def run_lab(topology_name: str = PAIR.name, prefix: str = DEFAULT_PREFIX) -> None:
    """Build a lab, start hopwire in its routers, say how to use it, and take it down on SIGINT or SIGTERM.

    :raises HopwireError: the lab cannot be built, or hopwire does not start, dies or does not stop cleanly.
    """
    topology = named_topology(topology_name)
    try:
        with stop_signals(), Lab(topology, prefix=prefix) as lab:
            try:
                ready_s = lab.start_routers()
                daemons = lab.start_daemons()
                print(description(lab, ready_s, daemons), flush=True)
                while True:
                    lab.check_routers()
                    time.sleep(_CHECK_INTERVAL_S)
            except Stopped:
                print("stopping the routers", flush=True)
                statuses = lab.stop_routers()
    except Stopped:
        return  # before the routers were started: the lab is down again
    failed = [f"{router} (status {status})" for router, status in statuses.items() if status != 0]
    if failed:
        raise HopwireError(f"the lab is down, but hopwire did not end cleanly in {', '.join(failed)}")
    print("the lab is down")


def description(lab: Lab, ready_s: Mapping[str, float], daemons: Mapping[str, RouterDaemons]) -> str:
    """Return what a person needs to know to use a lab."""
    lines = [lab.topology.picture, "Enter a host:"]
    for host in lab.topology.hosts:
        address = lab.topology.address(host.name)
        lines.append(f"  {host.name:8} {address!s:12} {enter_command(lab.namespace(host.name))}")
    lines += ["", "Look at a router:"]
    for router, seconds in ready_s.items():
        command = f"{control_cli()} --run-dir {lab.run_directory(router)} counters"
        lines.append(f"  {router:8} {command}   # ready after {seconds:.1f} s")
    if daemons:
        lines += ["", "Talk to a router's routing daemons:"]
        lines += [f"  {router:8} {shlex.join(its.shell_command)}" for router, its in daemons.items()]
        lines += ["", "Enter a router:"]
        lines += [f"  {router:8} {enter_command(lab.namespace(router))}" for router in daemons]
    lines += ["", "Ctrl-C takes the lab down."]
    return "\n".join(lines)


def enter_command(namespace: str) -> str:
    """Return the command that opens a shell in a namespace, with what this machine has."""
    if shutil.which("ip"):
        return f"ip netns exec {namespace} bash"
    return f"nsenter --net={netns.path(namespace)} bash"


def control_cli() -> str:
    """Return the command that starts control-cli: the one installed beside this Python, or the module."""
    script = Path(sys.executable).with_name("control-cli")
    return str(script) if script.exists() else f"{sys.executable} -m services.control.cli"
