"""`hopwire up`: looks whether a router can run here, starts the fork server, and then becomes the launcher.

What the launcher itself imports takes half a second. The fork server has its imports done meanwhile, on another core.
"""

from typing import Final

from services.common import netns
from services.launcher.environment import check_capabilities, check_packet_sockets
from services.launcher.up.processes import Processes
from services.launcher.up.settings import Settings

PACKAGES: Final = ("services.control", "services.forwarder", "services.ingress", "services.arp")
"""The services in the order in which they are loaded: control first, which has the most to do until all is ready."""


def run_up(settings: Settings) -> int:
    """Run a router until SIGTERM or SIGINT, and return the exit status.

    :raises HopwireError: it cannot run here; then nothing has been changed.
    """
    check_capabilities(other_namespace=settings.namespace is not None)
    if settings.namespace is not None:
        netns.enter(settings.namespace)
    check_packet_sockets()
    processes = Processes(PACKAGES)
    try:
        processes.start_server()
        from services.launcher.up.router import run_router  # while the server imports, too

        return run_router(settings, processes)
    finally:
        processes.kill_all()
