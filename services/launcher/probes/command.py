"""What the probes' command lines have in common."""

import argparse
import sys
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address
from typing import Final, NoReturn

from services.common import netns
from services.common.errors import HopwireError

USAGE_STATUS: Final = 2
"""Exit status for bad input; 1 stands for a network that did not do what the probe wanted."""
_INTERRUPTED_STATUS: Final = 130  # 128 + SIGINT, as shells report it


class _Parser(argparse.ArgumentParser):
    """Reports a malformed command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_STATUS, f"{self.prog}: {message} (see --help)\n")


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every probe has."""
    result = _Parser(prog=name, description=description)
    result.add_argument("--netns", metavar="NAME", help="run inside this network namespace (default: the current one)")
    result.add_argument("--json", action="store_true", help="print JSON")
    return result


def run(name: str, namespace: str | None, probe: Callable[[], int]) -> int:
    """Run a probe inside a namespace and return its exit status; an error becomes one line on stderr."""
    try:
        if namespace is not None:
            netns.enter(namespace)
        return probe()
    except HopwireError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
    except PermissionError as error:
        print(f"{name}: {error.strerror}: needs root (CAP_NET_RAW); run it with sudo", file=sys.stderr)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return _INTERRUPTED_STATUS
    return USAGE_STATUS


def address(text: str) -> IPv4Address:
    """Read an IPv4 address for argparse."""
    try:
        return IPv4Address(text)
    except AddressValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no IPv4 address") from error


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of integers from `low` to `high` for argparse."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() else low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no integer from {low} to {high}")
        return value

    return read


def seconds(text: str) -> float:
    """Read a duration in seconds, zero or more, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to {MAX_SECONDS:.0f}")
    return value


MAX_SECONDS: Final = 86_400.0
