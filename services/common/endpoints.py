"""The run directory and the names of everything in it: sockets, rings, counters, locks."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.common.errors import HopwireError

DEFAULT_RUN_DIR: Final = Path("/run/hopwire")
RUN_DIR_MODE: Final = 0o750
_UMASK: Final = 0o027
"""Of a service: what it makes in a run directory that others may enter is closed to them all the same."""
_MAX_SOCKET_PATH_BYTES: Final = 107  # sun_path of unix(7) is 108 bytes with its closing zero
_LONGEST_NAME: Final = "control-snapshot.sock"


@dataclass(frozen=True)
class Endpoints:
    """All ZeroMQ endpoints of one router. Each is `ipc://` in the run directory unless told otherwise."""

    run_dir: Path
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Endpoints that a remote ingress uses instead, by socket name: `{"forwarder-frames": "tcp://127.0.0.1:7001"}`."""

    def _ipc(self, name: str) -> str:
        return self.elsewhere.get(name) or f"ipc://{self.run_dir / name}.sock"

    @property
    def forwarder_bell(self) -> Path:
        """The named pipe that an ingress wakes the forwarder with (`bell.Bell`)."""
        return self.run_dir / "forwarder.bell"

    @property
    def forwarder_frames(self) -> str:
        """PULL of the forwarder: inline frames from ingress, and undeliverable ones from arp."""
        return self._ipc("forwarder-frames")

    @property
    def forwarder_rpc(self) -> str:
        """ROUTER of the forwarder: questions about its tables."""
        return self._ipc("forwarder-rpc")

    @property
    def arp_frames(self) -> str:
        """PULL of arp: ARP frames from ingress, unresolved frames and use of neighbours from the forwarder."""
        return self._ipc("arp-frames")

    @property
    def arp_state(self) -> str:
        """PUB of arp: neighbours."""
        return self._ipc("arp-state")

    @property
    def arp_snapshot(self) -> str:
        """ROUTER of arp: snapshots of the neighbours on request."""
        return self._ipc("arp-snapshot")

    @property
    def arp_rpc(self) -> str:
        """ROUTER of arp: questions about the neighbour cache."""
        return self._ipc("arp-rpc")

    @property
    def control_state(self) -> str:
        """PUB of control: interfaces, routes, parameters."""
        return self._ipc("control-state")

    @property
    def control_snapshot(self) -> str:
        """ROUTER of control: snapshots of that state on request."""
        return self._ipc("control-snapshot")

    @property
    def control_rpc(self) -> str:
        """ROUTER of control: what `control-cli` and the launcher ask."""
        return self._ipc("control-rpc")

    @property
    def control_reports(self) -> str:
        """PULL of control: every service's health and cumulative counters."""
        return self._ipc("control-reports")

    def ring(self, interface: str) -> Path:
        """Return the file of the frame ring from one ingress to the forwarder."""
        return self.rings / f"{interface}.ring"

    @property
    def rings(self) -> Path:
        """The folder of the frame rings."""
        return self.run_dir / "rings"

    def counters(self, instance: str) -> Path:
        """Return the file of one service's counters."""
        return self.run_dir / "counters" / f"{instance}.bin"

    @property
    def nat_sessions(self) -> Path:
        """The forwarder's file of NAT sessions."""
        return self.run_dir / "nat-sessions.bin"

    def drops(self, instance: str) -> Path:
        """Return the file of the last frames that one service dropped (`recording`)."""
        return self.recordings / f"{instance}.bin"

    @property
    def recordings(self) -> Path:
        """The folder of those files."""
        return self.run_dir / "drops"

    def taps(self, instance: str) -> Path:
        """Return the folder in which clients ask one service for the frames that it sees (`tap`)."""
        return self.all_taps / instance

    @property
    def all_taps(self) -> Path:
        """The folder of those folders."""
        return self.run_dir / "taps"

    def lock(self, instance: str) -> Path:
        """Return the file that the one running process of an instance holds locked."""
        return self.run_dir / f"{instance}.lock"


def prepare_run_dir(run_dir: Path) -> Endpoints:
    """Make the run directory where it is missing, check it, and return its endpoints.

    From then on this process makes nothing that other users may read or write.

    :raises HopwireError: it cannot be made or written, is another user's or open to others, or its path is too long
        for sockets.
    """
    run_dir = run_dir.absolute()
    if len(os.fsencode(run_dir / _LONGEST_NAME)) > _MAX_SOCKET_PATH_BYTES:
        raise HopwireError(
            f"run directory {run_dir}: its path is too long for Unix sockets (sun_path holds "
            f"{_MAX_SOCKET_PATH_BYTES} bytes); choose a shorter --run-dir"
        )
    try:
        run_dir.mkdir(mode=RUN_DIR_MODE, parents=True, exist_ok=True)
        status = run_dir.stat()
    except OSError as error:
        raise HopwireError(f"run directory {run_dir}: {error.strerror}; choose another with --run-dir") from error
    if not os.access(run_dir, os.W_OK | os.X_OK):
        raise HopwireError(f"run directory {run_dir} is not writable; run as root or choose another --run-dir")
    if status.st_uid not in (0, os.geteuid()):
        raise HopwireError(f"run directory {run_dir} belongs to user {status.st_uid}; choose another --run-dir")
    if status.st_mode & stat.S_IWOTH:
        raise HopwireError(f"run directory {run_dir} is writable by everybody; run: chmod 0750 {run_dir}")
    os.umask(_UMASK)
    return Endpoints(run_dir)
