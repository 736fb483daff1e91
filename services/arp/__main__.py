"""`python -m services.arp`: settings from flags or environment."""

from pathlib import Path
from typing import Annotated

import typer
import zmq

from services.arp.service import ArpService
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
            envvar="HOPWIRE_ARP_LISTEN",
            help="One more endpoint for ARP frames (tcp://127.0.0.1:7002). Not encrypted: keep it on a network of "
            "your own.",
        ),
    ] = "",
    log_level: Annotated[str, typer.Option(envvar="HOPWIRE_LOG_LEVEL")] = "info",
    log_format: LogFormat = AUTO,
) -> None:
    """Find out next hops' MACs, answer for the router's own addresses, and send the frames that waited."""
    raise typer.Exit(run_to_exit("hopwire arp", lambda: _run(run_dir, listen, log_level, log_format)))


def _run(run_dir: Path, listen: str, log_level: str, log_format: str) -> None:
    log = set_up_logging("arp", log_level, log_format)
    stop = StopFlag()
    with zmq.Context() as context:
        service = ArpService(context, prepare_run_dir(run_dir), log, listen)
        log.info("started", run_dir=str(run_dir))
        try:
            service.run(stop)
        finally:
            service.close()
    log.info("stopped")


if __name__ == "__main__":
    run_command_line(main)
