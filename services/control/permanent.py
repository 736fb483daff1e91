"""The permanent neighbours: those of the configuration, and those that the operator gives with `neigh add`.

The latter are kept in a file of the run directory, and so outlive every service, control itself included; as the
kernel's own live as long as its namespace, these live as long as the run directory.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from services.common.errors import HopwireError
from services.common.parameters import Parameters, PermanentNeighbour

Key = tuple[str, str]
"""Interface name and IPv4 address as text."""

_FILE: TypeAdapter[list[PermanentNeighbour]] = TypeAdapter(list[PermanentNeighbour])


def permanent_path(run_dir: Path) -> Path:
    """Return the file that keeps the operator's entries."""
    return run_dir / "neighbours.json"


def key_of(neighbour: PermanentNeighbour) -> Key:
    """Return what tells a neighbour from all others."""
    return neighbour.interface, neighbour.address


class PermanentNeighbours:
    """What shall be, whatever arp knows at the moment."""

    def __init__(self, configured: Iterable[PermanentNeighbour], path: Path) -> None:
        """Read the operator's entries; a file that makes no sense is left alone, and `warning` says so."""
        self._configured = {key_of(each): each for each in configured}
        self._given: dict[Key, PermanentNeighbour] = {}
        self._path = path
        self._changed = False
        self.warning = ""
        try:
            self._given = {key_of(each): each for each in _FILE.validate_json(path.read_bytes())}
        except FileNotFoundError:
            return
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a list of neighbours"
            self.warning = f"permanent neighbours in {path} are not used: {reason}; remove the file"

    def get(self, key: Key) -> PermanentNeighbour | None:
        """Return an entry; that of the configuration, where both have one."""
        return self._configured.get(key) or self._given.get(key)

    def is_configured(self, key: Key) -> bool:
        """Tell whether the configuration gives an entry, so that the operator's word does not change it."""
        return key in self._configured

    def all(self) -> list[PermanentNeighbour]:
        """Return all entries."""
        return list((self._given | self._configured).values())

    def put(self, neighbour: PermanentNeighbour) -> None:
        """Keep an entry.

        :raises HopwireError: the file cannot be written; nothing has changed.
        """
        self._keep(self._given | {key_of(neighbour): neighbour})

    def remove(self, key: Key) -> None:
        """Forget an entry.

        :raises HopwireError: as `put`.
        """
        self._keep({one: neighbour for one, neighbour in self._given.items() if one != key})

    def configure(self, configured: Iterable[PermanentNeighbour]) -> None:
        """Take other entries of the configuration; the operator's stay."""
        entries = {key_of(each): each for each in configured}
        self._changed = self._changed or entries != self._configured
        self._configured = entries

    def take_changed(self) -> bool:
        """Tell whether there was a change since the last call."""
        changed, self._changed = self._changed, False
        return changed

    def within(self, parameters: Parameters) -> Parameters:
        """Return parameters with all these entries in them."""
        arp = parameters.arp.model_copy(update={"permanent_neighbours": tuple(self.all())})
        return parameters.model_copy(update={"arp": arp})

    def _keep(self, given: dict[Key, PermanentNeighbour]) -> None:
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps([each.model_dump() for each in given.values()]), encoding="utf-8")
            new.replace(self._path)
        except OSError as error:
            raise HopwireError(f"cannot keep neighbours in {self._path}: {error.strerror}") from error
        self._given = given
        self._changed = True
