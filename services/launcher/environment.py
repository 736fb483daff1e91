"""What hopwire needs from the machine: privileges, packet sockets, a network namespace to itself."""

import errno
import socket
from pathlib import Path
from typing import Final

from services.common.capabilities import missing_capabilities
from services.common.errors import HopwireError

_CAPABILITIES: Final = ("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN")
_SOL_PACKET: Final = 263  # linux/socket.h
_PACKET_VERSION: Final = 10  # linux/if_packet.h
_PACKET_VNET_HDR: Final = 15
_PACKET_IGNORE_OUTGOING: Final = 23
_TPACKET_V2: Final = 1
_OWNER_NAME: Final = "@hopwire-launcher"  # as /proc/net/unix shows it; the @ stands for a zero byte
"""Names in the abstract space of Unix sockets belong to a network namespace (unix(7)), and go with their process."""


def check_capabilities(*, other_namespace: bool) -> None:
    """Do nothing if this process may run a router, in another network namespace or its own.

    :raises HopwireError: a capability is missing.
    """
    needed = [name for name in _CAPABILITIES if other_namespace or name != "CAP_SYS_ADMIN"]
    missing = missing_capabilities(needed)
    if missing:
        raise HopwireError(f"{' and '.join(missing)} missing; run it as root, with sudo, or give the container cap_add")


def check_packet_sockets() -> None:
    """Do nothing if the kernel offers the packet sockets that hopwire needs.

    :raises HopwireError: it does not.
    """
    try:
        packet_socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            advice = "run it as root, with sudo, or give the container CAP_NET_RAW"
        else:
            advice = "use a kernel with CONFIG_PACKET"
        raise HopwireError(f"no packet socket: {error.strerror}; {advice}") from error
    with packet_socket:
        for option, value, name, since in (
            (_PACKET_VERSION, _TPACKET_V2, "TPACKET_V2", "2.6.27"),
            (_PACKET_VNET_HDR, 1, "PACKET_VNET_HDR", "2.6.37"),
            (_PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING", "4.20"),
        ):
            try:
                packet_socket.setsockopt(_SOL_PACKET, option, value)
            except OSError as error:
                raise HopwireError(
                    f"packet sockets without {name} ({error.strerror}); use Linux {since} or later"
                ) from error


def own_namespace() -> socket.socket:
    """Make this process the one hopwire of its network namespace, for as long as the socket stays open.

    :raises HopwireError: there is another, whatever its run directory.
    """
    owner = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        owner.bind(_OWNER_NAME.replace("@", "\0"))
    except OSError as error:
        owner.close()
        raise HopwireError(
            "another `hopwire up` routes in this network namespace, and two would forward every frame twice; "
            "stop it first"
        ) from error
    return owner


def namespace_is_owned() -> bool:
    """Tell whether some `hopwire up` runs in the network namespace of the calling thread."""
    sockets = Path("/proc/thread-self/net/unix").read_text(encoding="utf-8", errors="replace")
    return any(line.endswith(f" {_OWNER_NAME}") for line in sockets.splitlines())
