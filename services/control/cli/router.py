"""Asking control: one request, one answer, and in plain words why there is none."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.common.endpoints import DEFAULT_RUN_DIR, Endpoints
from services.common.errors import HopwireError
from services.control.cli.grammar import Request

RUN_DIR_VARIABLE: Final = "HOPWIRE_RUN_DIR"
CONNECT_VARIABLE: Final = "HOPWIRE_CONNECT"
SERVER_KEY_VARIABLE: Final = "HOPWIRE_SERVER_KEY"
KEY_VARIABLE: Final = "HOPWIRE_KEY"
_POLL_RESOLUTION_S: Final = 0.001  # the RPC client counts its timeout in whole milliseconds


class NoRouterError(HopwireError):
    """Nobody answers in this run directory."""

    def __init__(self, run_dir: Path, why: str) -> None:
        option = "" if run_dir == DEFAULT_RUN_DIR else f" --run-dir {run_dir}"
        super().__init__(
            f"no router in run directory {run_dir}: {why}; start one with `hopwire up{option}`, "
            f"or name another with --run-dir or {RUN_DIR_VARIABLE}"
        )


@dataclass(frozen=True)
class Remote:
    """A router on another machine."""

    endpoint: str
    """tcp://HOST:PORT."""
    server_key: str
    """The router's public key, or the file that has it."""
    key_file: Path
    """The file of our own pair of keys."""


Place = Path | Remote
"""Where the router is: its run directory, or an endpoint."""


class SilentRouterError(NoRouterError):
    """Nobody answers at an endpoint."""

    def __init__(self, remote: Remote, timeout_s: float) -> None:
        HopwireError.__init__(
            self,
            f"no router at {remote.endpoint}: no answer within {timeout_s:g} s; check the address, --server-key, and "
            "that the public key of --key is among rpc.clients of the router's configuration",
        )


class RefusedError(HopwireError):
    """Control understood and did not do it; the text is its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask(place: Place, request: Request, timeout_s: float) -> Any:
    """Return control's result.

    :raises NoRouterError: no control service listens there, or it does not answer in time.
    :raises RefusedError: control's own error.
    """
    if isinstance(place, Remote):
        return _ask(place.endpoint, request, timeout_s, SilentRouterError(place, timeout_s), _protection(place))
    run_dir = place.absolute()
    check_listening(Endpoints(run_dir), timeout_s)
    silent = NoRouterError(run_dir, f"no answer within {timeout_s:g} s")
    return _ask(Endpoints(run_dir).control_rpc, request, timeout_s, silent)


def _ask(
    endpoint: str,
    request: Request,
    timeout_s: float,
    silent: NoRouterError,
    protect: Callable[[Any], None] | None = None,
) -> Any:
    import zmq  # noqa: PLC0415 - a quarter of a second that help, completion and wrong usage do not pay

    from services.common.bus import RpcClient, RpcRefusedError  # noqa: PLC0415

    with zmq.Context() as context:
        client = RpcClient(context, endpoint, protect)
        deadline = time.monotonic() + timeout_s
        try:
            return client.call(request.method, dict(request.params), timeout_s)
        except RpcRefusedError as refused:
            # "unavailable" is control's word for a service behind it too; only the clock tells who was silent
            if refused.error.code == "unavailable" and time.monotonic() >= deadline - _POLL_RESOLUTION_S:
                raise silent from refused
            raise RefusedError(refused.error.code, refused.error.message) from refused
        finally:
            client.close()


def _protection(remote: Remote) -> Callable[[Any], None]:
    """Return what has a socket speak with this router only, and prove who we are.

    :raises HopwireError: a key cannot be read.
    """
    from services.common.curve import load_pair, public_key  # noqa: PLC0415

    pair, server_key = load_pair(remote.key_file), public_key(remote.server_key)
    return lambda socket: pair.protect_client(socket, server_key)


def check_listening(endpoints: Endpoints, timeout_s: float) -> None:
    """Say at once what ZeroMQ, which waits for a peer to appear, would say after the timeout.

    :raises NoRouterError: no control service listens in the run directory.
    """
    run_dir = endpoints.run_dir
    path = endpoints.control_rpc.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(timeout_s)
        try:
            probe.connect(path)
        except FileNotFoundError as error:
            why = f"there is no {Path(path).name}" if run_dir.exists() else "it does not exist"
            raise NoRouterError(run_dir, why) from error
        except ConnectionRefusedError as error:
            raise NoRouterError(run_dir, "its control service has ended") from error
        except PermissionError as error:
            raise NoRouterError(run_dir, "Permission denied (only root and its owner may use it)") from error
        except OSError as error:
            raise NoRouterError(run_dir, error.strerror or str(error)) from error
