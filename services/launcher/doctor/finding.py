"""What one check has found."""

from dataclasses import dataclass
from enum import Enum
from typing import Self


class Level(Enum):
    """How bad it is; the value is its mark."""

    FINE = "✓"
    NOTE = "!"
    """Works, but perhaps not as wanted."""
    WRONG = "✗"


@dataclass(frozen=True)
class Finding:
    """One line for the person who asked."""

    level: Level
    text: str
    remedy: str = ""

    @classmethod
    def of_line(cls, level: Level, line: str) -> Self:
        """Split a line as `HopwireError` has it: what is wrong, a semicolon, what to do."""
        text, _, remedy = line.partition("; ")
        return cls(level, text, remedy)


def fine(text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(Level.FINE, text)


def note(text: str, remedy: str) -> Finding:
    """Return that something may not be as wanted."""
    return Finding(Level.NOTE, text, remedy)


def wrong(text: str, remedy: str) -> Finding:
    """Return that something is wrong."""
    return Finding(Level.WRONG, text, remedy)
