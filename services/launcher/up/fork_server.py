"""`python -m services.launcher.up.fork_server`: imports the services once, and forks each instance from what it has.

Nine tenths of a service's start are imports, Numba and its kernels above all. This process has done them before; it has
one thread, and neither a socket but its channel nor a ZeroMQ context, so that a fork of it is like a new process that
has imported the same. It catches no signal and ends with the launcher.

A process is forked twice: the one between ends at once, and the launcher, which adopts the orphans of its descendants,
is the parent from then on. So it learns from the kernel how each service ended, and no service notices that the server
has gone. Nobody runs before the launcher knows of it: a process waits for the byte that the server writes when it has
told its id, and if the server is killed before that, it ends.
"""

import errno
import gc
import os
import runpy
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import BinaryIO, Final

from services.common.waiting import is_readable
from services.launcher.up.fork_protocol import Born, Loaded, Order, Refused, receive, send
from services.launcher.up.lineage import end_with
from services.launcher.up.process_title import ROOM, set_title

_MODULE: Final = "services.launcher.up.fork_server"
_MAX_DIGITS: Final = 20


def command(launcher: int, channel: int, packages: Sequence[str]) -> list[str]:
    """Return the command line of a server.

    :param launcher: its parent's process id.
    :param channel: the descriptor of its channel.
    :param packages: in order of loading.
    """
    return [sys.executable, "-m", _MODULE, str(launcher), str(channel), *packages, ROOM]


def serve(channel: socket.socket, packages: Sequence[str]) -> Order | None:
    """Load the packages and carry out orders until the launcher closes the channel.

    :returns: None in the server; in a process that it has made, what to run there.
    """
    gc.disable()  # it would look at all modules again and again
    for package in packages:
        import_module(f"{package}.service")
        send(channel, Loaded(package))
        while is_readable(channel):  # who is loaded need not wait for the others
            if not isinstance(order := receive(channel), Order):
                return None
            if _carry_out(channel, order):
                return order
    while isinstance(order := receive(channel), Order):
        if _carry_out(channel, order):
            return order
    return None


def _carry_out(channel: socket.socket, order: Order) -> bool:
    """Make a process and tell the launcher of it; return whether this is that process."""
    launcher = os.getppid()
    gc.freeze()  # so that no service's collector writes to the pages that all share
    with _pipe() as (told, tell), _pipe() as (starts, start):
        try:
            between = os.fork()
        except OSError as error:
            send(channel, Refused(order.instance, str(error)))
            return False
        if between == 0:
            _fork_and_exit(tell)
            start.close()
            if not starts.read(1):
                os._exit(0)
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # until it is ready for it (`ReloadFlag`)
            end_with(launcher, signal.SIGTERM)
            return True
        _, status = os.waitpid(between, 0)
        if status != 0:
            send(channel, Refused(order.instance, os.strerror(os.waitstatus_to_exitcode(status))))
            return False
        send(channel, Born(order.instance, int(told.read(_MAX_DIGITS))))
        start.write(b"\0")
    return False


def _fork_and_exit(tell: BinaryIO) -> None:
    """Fork; the parent tells the child's id and exits, with the error's number if there is no child."""
    try:
        child = os.fork()
    except OSError as error:
        os._exit(error.errno or errno.EAGAIN)
    if child:
        tell.write(str(child).encode())
        os._exit(0)


@contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Give both ends of a new pipe, unbuffered."""
    out, into = os.pipe()
    with os.fdopen(out, "rb", 0) as reader, os.fdopen(into, "wb", 0) as writer:
        yield reader, writer


def _run(order: Order) -> None:
    """Be what `python -m` would be: a process with these arguments, and with random numbers of its own.

    `random` sees to its own after a fork (os.register_at_fork), `secrets` keeps none. What is shared is the secret of
    Python's hashes of strings: the services of one run are no strangers to each other.
    """
    set_title([sys.executable, "-m", order.package, *order.arguments])
    gc.enable()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    sys.argv = [order.package, *order.arguments]  # runpy puts the path in the first place
    runpy.run_module(order.package, run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve on the channel of the command line; in a process that was made, run what was ordered."""
    set_title([sys.executable, "-m", _MODULE])
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's library would start threads, which no fork has
    launcher, descriptor, *packages, _room = sys.argv[1:]
    end_with(int(launcher), signal.SIGKILL)  # also while it stands still
    try:
        with socket.socket(fileno=int(descriptor)) as channel:
            order = serve(channel, packages)
    except (BrokenPipeError, ConnectionResetError):  # the launcher wants it no more
        return
    if order is not None:
        _run(order)


if __name__ == "__main__":
    main()
