"""The client's end of taps: one in the folder of each service, read in the order of time."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.common.tap import LARGEST_RECORD_BYTES, Record, TapReader, Wish

FORWARDER: Final = "forwarder"
FORWARDER_AREA_BYTES: Final = 16 * 2**20
"""What may lie unread of the forwarder's frames: some 80,000 small ones."""
AREA_BYTES: Final = 8 * LARGEST_RECORD_BYTES
"""And of any other service's, which are few."""
MOST_RECORDS: Final = 4096
"""Taken from a tap at one go, so that the others get their turn."""


class Tapping:
    """Taps at several services."""

    def __init__(self, run_dir: Path, instances: Sequence[str], wish: Wish) -> None:
        """Ask these services for frames; the taps are gone after `close`.

        :raises HopwireError: the run directory cannot be written, or has no room.
        """
        endpoints = Endpoints(run_dir.absolute())
        name = f"{os.getpid()}-{os.urandom(4).hex()}"
        self._readers: dict[str, TapReader] = {}
        try:
            for instance in instances:
                size = FORWARDER_AREA_BYTES if instance == FORWARDER else AREA_BYTES
                self._readers[instance] = TapReader(endpoints.taps(instance), name, wish, size)
        except OSError as error:
            self.close()
            raise HopwireError(
                f"cannot ask for frames in {endpoints.run_dir}: {error.strerror}; check the run directory"
            ) from error

    def silent(self) -> list[str]:
        """Return the services that do not write their frames."""
        return [instance for instance, reader in self._readers.items() if not reader.attached]

    def take(self) -> list[Record]:
        """Return what has come since the last call, the earliest first.

        :raises HopwireError: a service wrote what makes no sense.
        """
        try:
            records = [record for reader in self._readers.values() for record in reader.take(MOST_RECORDS)]
        except ValueError as error:
            raise HopwireError(f"cannot read frames: {error}") from error
        return sorted(records, key=lambda record: record.time_ns)

    def missed(self) -> dict[int, int]:
        """Return how many wanted frames were missed, by interface index: nobody took those before them in time."""
        missed: dict[int, int] = {}
        for reader in self._readers.values():
            for index, count in reader.missed().items():
                missed[index] = missed.get(index, 0) + count
        return missed

    def close(self) -> None:
        """Take the taps away."""
        for reader in self._readers.values():
            reader.close()
        self._readers = {}
