"""What outlives control: the configuration in force, those before it, and whether the present one is confirmed.

One file of the run directory, written anew as a whole. It lives as long as the run directory, as permanent
neighbours do.
"""

import os
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.errors import HopwireError
from services.control.configuration.state import Owned, RouteKey, route_key
from services.control.rpc_params import RouteSpec

MAX_HISTORY: Final = 10
"""Configurations before the present one that are kept."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MODE: Final = 0o600


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Version(_Part):
    """One configuration that was in force."""

    text: str = ""
    """The file's whole text; empty for a router that was never told anything."""
    source: str = "defaults"
    """The file's name."""
    at: float = 0.0
    """Unix time in seconds of its application."""


class Unconfirmed(_Part):
    """A configuration that goes back by itself."""

    deadline: float
    """Monotonic time in seconds, since the start of the machine."""
    boot: str
    """Which start: the deadline of another one is over."""
    until: float
    """The deadline as Unix time in seconds, for people."""
    displaced: tuple[RouteSpec, ...] = ()
    """Routes of control-cli that gave way."""

    @property
    def displaced_by_key(self) -> dict[RouteKey, RouteSpec]:
        """Those by destination and metric."""
        return {route_key(route): route for route in self.displaced}


class Record(_Part):
    """The file."""

    current: Version = Version()
    history: Annotated[tuple[Version, ...], Field(max_length=MAX_HISTORY)] = ()
    """The newest first."""
    file: str = ""
    """The text of control's own configuration file when it was last read."""
    owned: Owned = Owned()
    unconfirmed: Unconfirmed | None = None
    applying: bool = False
    """A change is under way: whoever reads this brings the kernel back to `current`."""
    ended: bool = False
    """Control has ended as it should: the next one begins with its own configuration file."""

    @property
    def tells_nothing(self) -> bool:
        """Whether control's own file, or none, is all that there is to know."""
        is_own = self.current.text in ("", self.file)
        has_more = self.history or self.unconfirmed or self.applying or self.owned.addresses or self.owned.links
        return is_own and not has_more

    def pushed(self) -> tuple[Version, ...]:
        """Return the history with the present configuration at its front."""
        return (self.current, *self.history)[:MAX_HISTORY]


def record_file(run_dir: Path) -> Path:
    """Return the file."""
    return run_dir / "configuration.json"


def boot_id() -> str:
    """Return what tells this start of the machine from all others."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


class RecordStore:
    """Reads and writes the file; `warning` tells of one that makes no sense."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.warning = ""

    def read(self) -> Record:
        """Return the record; a new one where there is none."""
        try:
            return Record.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Record()
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it makes no sense"
            self.warning = f"the record of the configuration in {self._path} is not used: {reason}; remove the file"
            return Record()

    def forget(self) -> None:
        """Remove the record.

        :raises HopwireError: it is there, and cannot be removed.
        """
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise HopwireError(f"cannot remove {self._path}: {error.strerror}") from error

    def write(self, record: Record) -> None:
        """Write the record.

        :raises HopwireError: it cannot be written; the one before it is still there.
        """
        new = self._path.with_suffix(".new")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(record.model_dump_json().encode())
            new.replace(self._path)
        except OSError as error:
            raise HopwireError(f"cannot keep the configuration in {self._path}: {error.strerror}") from error
