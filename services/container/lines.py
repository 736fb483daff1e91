"""What a service writes to its log, line by line: which line tells a person why it ended."""

from typing import Final

_LONGEST_LINE: Final = 65_536
_EVENT: Final = b"{"
"""Log events are JSON (`services.common.runtime`); an error that ends a service is a plain line."""


class Lines:
    """Takes bytes as they come, gives whole lines back, and keeps the last plain one.

    A plain line that was there already is left out: a service that cannot start says so once, not at each attempt.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._last_plain = b""

    @property
    def last_plain(self) -> str:
        """The last line that is no log event; empty if there is none."""
        return self._last_plain.decode(errors="replace").strip()

    def take(self, data: bytes) -> bytes:
        """Return the lines to write now; no data at all means the end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > _LONGEST_LINE):
            lines, self._rest = [*lines, self._rest], b""
        return b"".join(line + b"\n" for line in lines if self._is_new(line))

    def _is_new(self, line: bytes) -> bool:
        if line.startswith(_EVENT) or not line.strip():
            return True
        is_new = line != self._last_plain
        self._last_plain = line
        return is_new
