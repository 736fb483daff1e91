"""Showing something again and again: on a terminal a screen, elsewhere one text behind the other."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from services.common.waiting import is_readable
from services.control.cli.tables import Section, renderables

_QUIT: Final = ("q", "Q")


def watch(show: Callable[[], int], interval_s: float) -> int:
    """Show again and again until the reader goes away; return the exit status."""
    while (status := show()) == 0:
        time.sleep(interval_s)
    return status


def watch_on_screen(sections: Callable[[], list[Section]], interval_s: float) -> None:
    """Show tables on the terminal's other screen, until q is pressed."""
    from rich.console import Console  # noqa: PLC0415 - output to a file or a pipe does not pay for it
    from rich.live import Live  # noqa: PLC0415

    first = renderables(sections())
    console = Console(highlight=False)
    screen = Live(first, console=console, screen=True, auto_refresh=False)
    with _keys() as pressed:
        try:  # around the start as well: an interrupt must not leave the terminal on its other screen
            screen.start(refresh=True)
            while not pressed(interval_s):
                screen.update(renderables(sections()), refresh=True)
        finally:
            screen.stop()


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Yield a function that waits so long for a key, and tells whether it is the one that ends the screen."""
    if not sys.stdin.isatty():

        def rest(seconds: float) -> bool:
            time.sleep(seconds)
            return False

        yield rest
        return
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    before: list[Any] = termios.tcgetattr(sys.stdin)

    def wait(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if is_readable(sys.stdin, left) and sys.stdin.read(1) in (*_QUIT, ""):
                return True
        return False

    try:
        tty.setcbreak(sys.stdin)
        yield wait
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
