"""Tables for people: with lines and colours on a terminal, plain aligned text anywhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TextIO

_EMPTY: Final = "-"
_GAP: Final = "  "


class Column(NamedTuple):
    """A column of a table."""

    title: str
    key: str
    """Of the rows: what stands in the cells."""
    right: bool = False
    """Aligned to the right: numbers."""
    optional: bool = False
    """Left out when it is empty in every row."""


@dataclass(frozen=True)
class Table:
    """Titles and cells, all of them text."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def widths(self) -> tuple[int, ...]:
        """The characters that each column needs."""
        lines = (tuple(column.title for column in self.columns), *self.rows)
        return tuple(max(map(len, cells)) for cells in zip(*lines, strict=True))


Section = Table | str
"""A table, or lines of text."""


def table(columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return a table of the rows; a cell without a value shows `-`."""
    rows = list(rows)
    shown = tuple(
        column
        for column in columns
        if not column.optional or any(row.get(column.key) not in (None, "") for row in rows)
    )
    return Table(shown, tuple(tuple(_cell(row.get(column.key)) for column in shown) for row in rows))


def _cell(value: Any) -> str:
    # An interface's name may hold what would drive the terminal.
    return _EMPTY if value is None else "".join(c if c.isprintable() else "?" for c in str(value))


def as_text(sections: Iterable[Section]) -> str:
    """Return sections as plain text, with an empty line between them; a table without rows is left out."""
    texts = [section + "\n" if isinstance(section, str) else _aligned(section) for section in sections]
    return "\n".join(text for text in texts if text)


def _aligned(content: Table) -> str:
    if not content.rows:
        return ""
    lines = [tuple(column.title for column in content.columns), *content.rows]
    rights = [column.right for column in content.columns]
    widths = content.widths
    return "".join(
        _GAP.join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, rights, strict=True)
        ).rstrip()
        + "\n"
        for line in lines
    )


def as_terminal_text(sections: Iterable[Section], terminal: TextIO) -> str:
    """Return sections as text for this terminal: its width, its colours."""
    from rich.console import Console  # noqa: PLC0415 - 80 ms that output to a file or a pipe does not pay

    console = Console(file=terminal, highlight=False)
    with console.capture() as captured:
        console.print(renderables(sections), crop=False)
    return captured.get()


def renderables(sections: Iterable[Section]) -> Any:
    """Return sections as one thing that rich prints, with an empty line between them."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    parts: list[Any] = []
    for section in sections:
        if isinstance(section, str) or section.rows:
            parts += [Text("")] if parts else []
            parts.append(Text(section) if isinstance(section, str) else _grid(section))
    return Group(*parts)


def _grid(content: Table) -> Any:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.table import Table as RichTable  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = RichTable(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), header_style="bold cyan")
    for column, width in zip(content.columns, content.widths, strict=True):
        # A number is never folded: where not all of them fit, the terminal wraps the line.
        if column.right:
            grid.add_column(column.title, justify="right", min_width=width)
        else:
            grid.add_column(column.title, overflow="fold", min_width=len(column.title))
    for row in content.rows:
        grid.add_row(*map(Text, row))
    return grid
