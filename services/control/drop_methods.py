"""The method `drops` of control's RPC: the last dropped frames of each reason, from the services' flight recorders."""

from pathlib import Path
from typing import Any, Final

import structlog

from services.common.recording import Dropped, RecordingError, read_recording
from services.common.wire import summary
from services.control.rib import Rib
from services.control.rpc_params import DropFilter, checked

_NO_INTERFACE: Final = "-"


class DropMethods:
    """Answers `drops`."""

    def __init__(self, rib: Rib, folder: Path) -> None:
        """Take the folder of the recordings, `Endpoints.recordings`."""
        self._rib = rib
        self._folder = folder

    def __call__(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the frames, the earliest first."""
        wanted = checked(DropFilter, params)
        found = [
            self._shown(path.stem, dropped)
            for path in sorted(self._folder.glob("*.bin"))
            for dropped in _read(path)
            if wanted.reason in (None, dropped.reason.name)
        ]
        return sorted((one for one in found if wanted.dev in (None, one["dev"])), key=lambda one: one["time_ns"])

    def _shown(self, instance: str, dropped: Dropped) -> dict[str, Any]:
        name = self._rib.interface_name(dropped.interface) if dropped.interface else _NO_INTERFACE
        return {
            "time_ns": dropped.time_ns,
            "reason": dropped.reason.name,
            "text": dropped.reason.text,
            "dev": name,
            "instance": instance,
            "length": dropped.length,
            "frame": dropped.data.hex(),
            "fields": summary.describe(dropped.data),
            "summary": summary.line(dropped.data, dropped.length),
        }


def _read(path: Path) -> list[Dropped]:
    try:
        return read_recording(path)
    except (OSError, RecordingError) as error:
        structlog.get_logger().warning("drops not readable", path=str(path), reason=str(error))
        return []
