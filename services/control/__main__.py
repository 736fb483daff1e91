"""`python -m services.control`: settings from flags, environment, or the configuration file, in this order."""

from pathlib import Path
from typing import Annotated

import typer
import zmq

from services.common.endpoints import DEFAULT_RUN_DIR, prepare_run_dir
from services.common.logs import AUTO, LogFormat, set_up_logging
from services.common.runtime import ReloadFlag, StopFlag, run_command_line, run_to_exit
from services.control.configuration.origin import Origin
from services.control.service import ControlService


def main(
    run_dir: Annotated[Path, typer.Option(envvar="HOPWIRE_RUN_DIR", help="Where the router's services meet.")] = (
        DEFAULT_RUN_DIR
    ),
    config: Annotated[
        Path | None, typer.Option(envvar="HOPWIRE_CONFIG", help="The configuration file; without one, the defaults.")
    ] = None,
    metrics_listen: Annotated[
        str | None,
        typer.Option(
            envvar="HOPWIRE_METRICS_LISTEN", help="ADDRESS:PORT for Prometheus, or off. [default: 127.0.0.1:9100]"
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            envvar="HOPWIRE_CONTROL_LISTEN",
            help="One more endpoint for reports (tcp://127.0.0.1:7003). Not encrypted: keep it on a network of "
            "your own.",
        ),
    ] = "",
    log_level: Annotated[
        str | None,
        typer.Option(envvar="HOPWIRE_LOG_LEVEL", help="debug, info, warning or error. [default: info]"),
    ] = None,
    log_format: LogFormat = AUTO,
    no_kernel_settings: Annotated[
        bool,
        typer.Option(
            "--no-kernel-settings",
            envvar="HOPWIRE_NO_KERNEL_SETTINGS",
            help="Leave the kernel's settings as they are, and warn where they are not as hopwire needs them.",
        ),
    ] = False,
) -> None:
    """Mirror the kernel's links, addresses and routes for the other services, and answer control-cli."""

    def run() -> None:
        path = config.absolute() if config is not None else None
        origin = Origin(path, log_level, metrics_listen, log_format)
        _run(run_dir, origin, listen, manage_kernel=not no_kernel_settings)

    raise typer.Exit(run_to_exit("hopwire control", run))


def _run(run_dir: Path, origin: Origin, listen: str, *, manage_kernel: bool) -> None:
    log = set_up_logging("control", origin.log_level or "info", origin.log_format)
    stop, reload = StopFlag(), ReloadFlag()
    with zmq.Context() as context:
        service = ControlService(context, prepare_run_dir(run_dir), origin, log, listen, manage_kernel=manage_kernel)
        service.log.info("started", run_dir=str(run_dir))
        try:
            service.run(stop, reload)
        finally:
            service.close()
        service.log.info("stopped")


if __name__ == "__main__":
    run_command_line(main)
