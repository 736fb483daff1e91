"""What the kernel of the router's namespace must leave to hopwire: forwarding, ARP replies, echo replies.

Whatever is changed is recorded first, in a file that outlives a crash, and put back by `KernelOwnership.restore`.
TCP, UDP and all else to the router itself stay the kernel's.

Names of settings are paths below /proc/sys, which shows those of the network namespace of the thread that reads. In a
container it is read-only; HOPWIRE_SYSCTL names a folder where /proc/sys/net is mounted as `net`, to be written to.
"""

import json
import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from services.common import guard
from services.common.errors import HopwireError


class _Wanted(NamedTuple):
    """A value that hopwire needs."""

    value: str
    otherwise: str
    """What happens as long as it is another."""
    for_container: str
    """How to set it before a container's interfaces exist, whose /proc/sys is read-only."""


_FORWARDING = _Wanted("0", "the kernel forwards too, and frames may be forwarded twice", "net.ipv4.ip_forward=0")
_ACCEPT_REDIRECTS = _Wanted(
    "0",
    # a kernel that does not forward follows ICMP redirects if either `all` or the interface allows it
    "other hosts can change the routes of the router's own traffic",
    "net.ipv4.conf.all.accept_redirects=0 and net.ipv4.conf.default.accept_redirects=0",
)
NEXTHOP_COMPATIBILITY: Final = "net/ipv4/nexthop_compat_mode"
"""Whether the kernel spells out the next hops of routes that name a nexthop object (ip-sysctl.rst), as FRR's do."""
_GLOBAL: Final = {
    # first, since writing it changes conf/*/forwarding and conf/all/accept_redirects (net/ipv4/devinet.c,
    # inet_forward_change)
    "net/ipv4/ip_forward": _FORWARDING,
    "net/ipv4/icmp_echo_ignore_all": _Wanted(
        "1", "the kernel answers pings to the router too, each is answered twice", "net.ipv4.icmp_echo_ignore_all=1"
    ),
    "net/ipv4/conf/all/accept_redirects": _ACCEPT_REDIRECTS,
    NEXTHOP_COMPATIBILITY: _Wanted(
        "1", "routes by nexthop objects come without their next hops and are left out", "net.ipv4.nexthop_compat_mode=1"
    ),
}
_PER_INTERFACE: Final = {
    "forwarding": _FORWARDING,
    "arp_ignore": _Wanted(
        "8", "the kernel answers ARP requests too, each is answered twice", "net.ipv4.conf.all.arp_ignore=8"
    ),
    "accept_redirects": _ACCEPT_REDIRECTS,
}

_SYSCTL: Final = Path(os.environ.get("HOPWIRE_SYSCTL") or "/proc/sys")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_DEFAULT_FORWARDING: Final = "net/ipv4/conf/default/forwarding"
_RESERVED_PORTS: Final = "net/ipv4/ip_local_reserved_ports"
_KNOWN_NAME: Final = re.compile(
    rf"{'|'.join(_GLOBAL)}|{_RESERVED_PORTS}|net/ipv4/conf/[^/]+/({'|'.join(_PER_INTERFACE)})"
)
_VALUE: Final = re.compile(r"-?[0-9]{1,10}|[0-9,-]{0,4096}")  # the latter: ranges of ports
_SO_NETNS_COOKIE: Final = 71  # asm-generic/socket.h, from Linux 5.14


def record_path(run_dir: Path) -> Path:
    """Return the file in a router's run directory that keeps the values to put back."""
    return run_dir / "kernel-settings.json"


def shortcomings(interface_names: Iterable[str]) -> list[str]:
    """Return one line for each kind of setting that is not as hopwire needs it on these interfaces."""
    by_want: dict[_Wanted, list[str]] = {}
    for name, wanted in _wanted(interface_names).items():
        if not _in_force(name, wanted.value):
            by_want.setdefault(wanted, []).append(sysctl_name(name))
    return [
        f"{', '.join(names)} should be {wanted.value}: otherwise {wanted.otherwise}; "
        f"set it with sysctl -w, or for a container with --sysctl {wanted.for_container}"
        for wanted, names in by_want.items()
    ]


def read_setting(name: str) -> str | None:
    """Return a setting's value; None where the kernel has no such setting, or its interface is gone."""
    try:
        return (_SYSCTL / name).read_text(encoding="ascii").strip()
    except OSError:
        return None


def sysctl_name(name: str) -> str:
    """Return a setting's name as sysctl(8) takes it: dots and slashes swapped (`net.ipv4.conf.eth0/5.forwarding`)."""
    return name.translate(str.maketrans("/.", "./"))


def namespace_identity() -> str:
    """Return a text that tells the calling thread's network namespace from all others, also after a reboot."""
    boot = _BOOT_ID.read_text(encoding="ascii").strip()
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            return f"{boot} {probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8).hex()}"
        except OSError:  # an older kernel: the inode is unique among the namespaces that live
            return f"{boot} inode {Path('/proc/thread-self/ns/net').stat().st_ino}"


class KernelOwnership:
    """Takes over what hopwire does itself, in the network namespace of the calling thread."""

    def __init__(self, record: Path) -> None:
        """Nothing is changed yet; `record` is the file for the values to put back (see `record_path`)."""
        self._record = record

    def take(self, interface_names: Sequence[str], translated: Sequence[guard.TranslatedPorts] = ()) -> list[str]:
        """Take over these interfaces, and return a line for everything that could not be done.

        May be called again, with other interfaces or the same. The record of a crashed run is kept as the truth.

        :raises HopwireError: the record cannot be read or written; then nothing has been changed.
        """
        originals, warnings = self._load()
        wanted = _wanted(interface_names) | _reserved(originals, translated)
        self._save(originals | _unrecorded(originals, wanted))
        _write({name: want.value for name, want in wanted.items()})
        warnings += shortcomings(interface_names)
        try:
            guard.install(interface_names, translated)
        except OSError as error:
            warnings.append(
                f"no nftables guard at netdev ingress ({error.strerror}): all works, but the kernel spends time on "
                "frames that only pass through; use a kernel with CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_FIB_NETDEV"
            )
        return warnings

    def restore(self) -> list[str]:
        """Put everything back, remove the record, and return a line for everything that could not be done.

        :raises HopwireError: the record cannot be read.
        """
        originals, warnings = self._load()
        ordered = {name: originals[name] for name in _GLOBAL if name in originals} | originals
        if _DEFAULT_FORWARDING in originals:
            # An interface that came since would have taken its value from `default`.
            inherited = originals[_DEFAULT_FORWARDING]
            ordered |= {name: inherited for name in _forwarding_of_all() if name not in originals}
        warnings += [f"cannot put back {sysctl_name(name)}={ordered[name]}" for name in _write(ordered)]
        try:
            guard.remove()
        except OSError as error:
            warnings.append(f"cannot remove nftables table netdev {guard.TABLE}: {error.strerror}")
        self._record.unlink(missing_ok=True)
        return warnings

    def _load(self) -> tuple[dict[str, str], list[str]]:
        """Return the recorded values, and a line where there is a record that is of no use."""
        try:
            namespace, settings = _parse(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}, []
        except OSError as error:
            raise HopwireError(f"cannot read {self._record}: {error.strerror}; run as its owner") from error
        except ValueError:
            return {}, [f"{self._record} is damaged: what an earlier run changed is not put back"]
        if namespace != namespace_identity():
            return {}, [f"{self._record} is ignored: another network namespace, or one before a reboot, wrote it"]
        return settings, []

    def _save(self, settings: Mapping[str, str]) -> None:
        """Replace the record in one step, so that a crash leaves the old one or the new one."""
        new = self._record.with_suffix(".new")
        try:
            new.write_text(json.dumps({"namespace": namespace_identity(), "settings": settings}), encoding="utf-8")
            new.replace(self._record)
        except OSError as error:
            raise HopwireError(f"cannot write {self._record}: {error.strerror}; check the run directory") from error


def _wanted(interface_names: Iterable[str]) -> dict[str, _Wanted]:
    """Return all that hopwire needs, in the order in which to write it."""
    return _GLOBAL | {
        f"net/ipv4/conf/{interface}/{key}": wanted
        for interface in interface_names
        for key, wanted in _PER_INTERFACE.items()
    }


def _reserved(originals: Mapping[str, str], translated: Sequence[guard.TranslatedPorts]) -> dict[str, _Wanted]:
    """Return the setting that keeps the kernel from taking translated ports for connections of the router's own."""
    if not translated and _RESERVED_PORTS not in originals:
        return {}
    own = originals.get(_RESERVED_PORTS, read_setting(_RESERVED_PORTS) or "")
    ranges = sorted({f"{ports.first}-{ports.last}" for ports in translated if ports.protocol})
    value = ",".join([own, *ranges] if own else ranges)
    return {_RESERVED_PORTS: _Wanted(value, "", "")}


def _in_force(name: str, value: str) -> bool:
    """Tell whether a setting works as if it had the value. Of arp_ignore the kernel takes the larger: `all`, or own."""
    present = read_setting(name)
    if present in (value, None):
        return True
    return name.endswith("/arp_ignore") and read_setting("net/ipv4/conf/all/arp_ignore") == value


def _forwarding_of_all() -> list[str]:
    """Return the settings that writing ip_forward changes; conf/all/forwarding is ip_forward itself."""
    interfaces = (folder.name for folder in (_SYSCTL / "net/ipv4/conf").iterdir())
    return [f"net/ipv4/conf/{interface}/forwarding" for interface in interfaces if interface != "all"]


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """Return the namespace and the values of a record.

    :raises ValueError: it is none.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise ValueError("no settings")  # noqa: TRY004 - the one error of this function
    settings: dict[str, str] = record["settings"]
    for name, value in settings.items():
        if not _KNOWN_NAME.fullmatch(name) or not isinstance(value, str) or not _VALUE.fullmatch(value):
            raise ValueError(name)
    return str(record.get("namespace")), settings


def _unrecorded(originals: Mapping[str, str], wanted: Iterable[str]) -> dict[str, str]:
    """Return the present values of all that is about to change and is not recorded yet."""
    names = [name for name in (*wanted, *_forwarding_of_all()) if name not in originals]
    values = {name: value for name in names if (value := read_setting(name)) is not None}
    if _DEFAULT_FORWARDING in originals:
        # An interface that came since has taken our 0 from `default`; this is what it would have without us.
        inherited = originals[_DEFAULT_FORWARDING]
        values |= {name: inherited for name in values if name.endswith("/forwarding")}
    return values


def _write(settings: Mapping[str, str]) -> list[str]:
    """Write the settings that differ, and return the names of those that could not be written.

    Settings that are not there, since their interface is gone, are left out.
    """
    failed = []
    for name, value in settings.items():
        if read_setting(name) in (value, None):
            continue
        try:
            (_SYSCTL / name).write_text(f"{value}\n", encoding="ascii")
        except OSError:
            if read_setting(name) is not None:
                failed.append(name)
    return failed
