"""`python -m services.ingress --interface eth0`: settings from flags or environment."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
import zmq

from services.common.endpoints import DEFAULT_RUN_DIR, prepare_run_dir
from services.common.logs import AUTO, LogFormat, set_up_logging
from services.common.runtime import StopFlag, run_command_line, run_to_exit

DEFAULT_RING_MIB = 64


def main(
    interface: Annotated[
        str,
        typer.Option(
            envvar="HOPWIRE_INTERFACE",
            help="The interface: its name (eth0), its address, or its subnet (10.0.10.0/24).",
        ),
    ],
    run_dir: Annotated[Path, typer.Option(envvar="HOPWIRE_RUN_DIR", help="Where the router's services meet.")] = (
        DEFAULT_RUN_DIR
    ),
    transport: Annotated[
        str,
        typer.Option(
            envvar="HOPWIRE_TRANSPORT",
            help="shared-memory, or inline: frames inside messages, for an ingress that shares no memory with the "
            "forwarder.",
        ),
    ] = "shared-memory",
    forwarder: Annotated[
        str,
        typer.Option(envvar="HOPWIRE_FORWARDER", help="Where inline frames go (tcp://127.0.0.1:7001), if not here."),
    ] = "",
    arp: Annotated[
        str, typer.Option(envvar="HOPWIRE_ARP", help="Where ARP frames go (tcp://127.0.0.1:7002), if not here.")
    ] = "",
    control: Annotated[
        str, typer.Option(envvar="HOPWIRE_CONTROL", help="Where reports go (tcp://127.0.0.1:7003), if not here.")
    ] = "",
    ring_mib: Annotated[
        int,
        typer.Option(min=1, max=4096, envvar="HOPWIRE_RING_MIB", help="Kernel memory for the receive ring, in MiB."),
    ] = DEFAULT_RING_MIB,
    log_level: Annotated[str, typer.Option(envvar="HOPWIRE_LOG_LEVEL")] = "info",
    log_format: LogFormat = AUTO,
) -> None:
    """Receive one interface's frames and hand them to the forwarder."""
    elsewhere = {"forwarder-frames": forwarder, "arp-frames": arp, "control-reports": control}
    raise typer.Exit(
        run_to_exit(
            "hopwire ingress",
            lambda: _run(interface, run_dir, transport, elsewhere, ring_mib, (log_level, log_format)),
        )
    )


def _run(
    interface: str, run_dir: Path, transport: str, elsewhere: dict[str, str], ring_mib: int, log: tuple[str, str]
) -> None:
    # Imported here: `--help` answers without loading the compiled kernels.
    from services.common.errors import HopwireError  # noqa: PLC0415
    from services.common.interfaces import find_interface  # noqa: PLC0415
    from services.ingress.service import Ingress  # noqa: PLC0415

    if transport not in ("shared-memory", "inline"):
        raise HopwireError(f"transport {transport!r} is unknown; choose shared-memory or inline")
    if elsewhere["forwarder-frames"] and transport != "inline":
        raise HopwireError("--forwarder is for frames inside messages; add --transport inline")
    logger = set_up_logging("ingress", *log)
    stop = StopFlag()
    found = find_interface(interface)
    with zmq.Context() as context:
        ingress = Ingress(
            context,
            replace(prepare_run_dir(run_dir), elsewhere=elsewhere),
            found,
            "inline" if transport == "inline" else "shared-memory",
            ring_mib,
        )
        logger.info("receiving", interface=found.name, transport=transport)
        try:
            ingress.run(stop)
        finally:
            ingress.close()
    logger.info("stopped", interface=found.name)


if __name__ == "__main__":
    run_command_line(main)
