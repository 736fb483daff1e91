"""`python -m services.forwarder`: settings from flags or environment."""

from pathlib import Path
from typing import Annotated

import typer
import zmq

from services.common.endpoints import DEFAULT_RUN_DIR, prepare_run_dir
from services.common.logs import AUTO, LogFormat, set_up_logging
from services.common.runtime import StopFlag, run_command_line, run_to_exit


def main(
    run_dir: Annotated[Path, typer.Option(envvar="HOPWIRE_RUN_DIR", help="Where the router's services meet.")] = (
        DEFAULT_RUN_DIR
    ),
    listen: Annotated[
        str,
        typer.Option(
            envvar="HOPWIRE_FORWARDER_LISTEN",
            help="One more endpoint for inline frames (tcp://127.0.0.1:7001). Not encrypted: keep it on a network of "
            "your own.",
        ),
    ] = "",
    log_level: Annotated[str, typer.Option(envvar="HOPWIRE_LOG_LEVEL")] = "info",
    log_format: LogFormat = AUTO,
) -> None:
    """Forward IPv4 between the router's interfaces."""
    raise typer.Exit(run_to_exit("hopwire forwarder", lambda: _run(run_dir, listen, log_level, log_format)))


def _run(run_dir: Path, listen: str, log_level: str, log_format: str) -> None:
    # Imported here: `--help` answers without loading the compiled kernels.
    from services.forwarder.service import Forwarder  # noqa: PLC0415

    log = set_up_logging("forwarder", log_level, log_format)
    stop = StopFlag()
    with zmq.Context() as context:
        forwarder = Forwarder(context, prepare_run_dir(run_dir), log, listen)
        log.info("forwarding")
        try:
            forwarder.run(stop)
        finally:
            forwarder.close()
    log.info("stopped")


if __name__ == "__main__":
    run_command_line(main)
