"""Asking control: one request, one answer, and in plain words why there is none."""

import socket
import time
from pathlib import Path
from typing import Any, Final

from services.common.endpoints import DEFAULT_RUN_DIR, Endpoints
from services.common.errors import HopwireError
from services.control.cli.grammar import Request

RUN_DIR_VARIABLE: Final = "HOPWIRE_RUN_DIR"
_POLL_RESOLUTION_S: Final = 0.001  # the RPC client counts its timeout in whole milliseconds


class NoRouterError(HopwireError):
    """Nobody answers in this run directory."""

    def __init__(self, run_dir: Path, why: str) -> None:
        option = "" if run_dir == DEFAULT_RUN_DIR else f" --run-dir {run_dir}"
        super().__init__(
            f"no router in run directory {run_dir}: {why}; start one with `hopwire up{option}`, "
            f"or name another with --run-dir or {RUN_DIR_VARIABLE}"
        )


class RefusedError(HopwireError):
    """Control understood and did not do it; the text is its own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask(run_dir: Path, request: Request, timeout_s: float) -> Any:
    """Return control's result.

    :raises NoRouterError: no control service listens in the run directory, or it does not answer in time.
    :raises RefusedError: control's own error.
    """
    run_dir = run_dir.absolute()
    endpoint = Endpoints(run_dir).control_rpc
    check_listening(Endpoints(run_dir), timeout_s)

    import zmq  # noqa: PLC0415 - a quarter of a second that help, completion and wrong usage do not pay

    from services.common.bus import RpcClient, RpcRefusedError  # noqa: PLC0415

    with zmq.Context() as context:
        client = RpcClient(context, endpoint)
        deadline = time.monotonic() + timeout_s
        try:
            return client.call(request.method, dict(request.params), timeout_s)
        except RpcRefusedError as refused:
            # "unavailable" is control's word for a service behind it too; only the clock tells who was silent
            if refused.error.code == "unavailable" and time.monotonic() >= deadline - _POLL_RESOLUTION_S:
                raise NoRouterError(run_dir, f"no answer within {timeout_s:g} s") from refused
            raise RefusedError(refused.error.code, refused.error.message) from refused
        finally:
            client.close()


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
