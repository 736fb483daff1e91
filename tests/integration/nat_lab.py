"""A translating router between two inside networks and an outside one, whose host has no route to the inside."""

import contextlib
import ftplib
import io
import socket
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from router_lab import Control, RouterLab, inside, started, wait_for

from services.launcher.lab.topology import Host, Link, LinkEnd, Route, Router, Topology

INSIDE, INSIDE2, OUT, REMOTE = "192.168.1.2", "192.168.3.2", "192.168.0.1", "192.168.0.2"
LIMIT_S = 20.0


def _link(left: str, left_address: str, right: str, right_address: str) -> Link:
    return Link((LinkEnd(left, IPv4Interface(left_address)), LinkEnd(right, IPv4Interface(right_address))))


def _default(gateway: str) -> tuple[Route, ...]:
    return (Route(IPv4Network("0.0.0.0/0"), IPv4Address(gateway)),)


TOPOLOGY = Topology(
    name="nat-test",
    hosts=(Host("host1", _default("192.168.1.1")), Host("host0", _default("192.168.3.1")), Host("host2")),
    routers=(Router("router"),),
    links=(
        _link("host1", f"{INSIDE}/24", "router", "192.168.1.1/24"),
        _link("router", f"{OUT}/24", "host2", f"{REMOTE}/24"),
        _link("host0", f"{INSIDE2}/24", "router", "192.168.3.1/24"),
    ),
    picture="""\
     host1 ------------ router ------------- host2
  192.168.1.2  192.168.1.1 | 192.168.0.1  192.168.0.2
                           +---------------- host0
                             192.168.3.1  192.168.3.2
""",
)


@contextlib.contextmanager
def nat_lab(tag: str = "n") -> Iterator[RouterLab]:
    """The lab, with masquerading on eth1."""
    with started(TOPOLOGY, tag) as lab:
        control = lab.control()
        control.ask("nat.add", masquerade="eth1")
        wait_until_translating(control)
        yield lab


def wait_until_translating(control: Control, rules: int = 1) -> None:
    """Wait until the forwarder has the rules, and all of them have what they name."""

    def has_them() -> bool:
        shown = control.ask("nat.show")
        return len(shown["rules"]) == rules and shown["table"]["in_use"] and not shown["table"]["problems"]

    wait_for("the forwarder translates", has_them)


def sessions(control: Control) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = control.ask("nat.sessions")["sessions"]
    return told


class UdpEcho:
    """Answers datagrams with the sender's address as it is seen here."""

    def __init__(self, lab: RouterLab, node: str, address: str, port: int) -> None:
        self._socket = inside(lab, node, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.bind((address, port))
        self._socket.settimeout(0.1)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> "UdpEcho":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._end.is_set():
            with contextlib.suppress(TimeoutError):
                data, peer = self._socket.recvfrom(65_535)
                self._socket.sendto(f"{peer[0]} {peer[1]} {len(data)}".encode(), peer)


def udp_ask(sender: socket.socket, to: tuple[str, int], data: bytes = b"x") -> tuple[str, int, int]:
    """Ask a `UdpEcho` who it sees; asked again where the answer is lost."""
    sender.settimeout(1.0)
    for _ in range(10):
        sender.sendto(data, to)
        with contextlib.suppress(TimeoutError):
            address, port, length = sender.recv(100).decode().split()
            return address, int(port), int(length)
    raise AssertionError(f"no answer from {to}")


class PassiveFtpServer:
    """As much of an FTP server (RFC 959) as a passive transfer takes: one client, one file."""

    def __init__(self, lab: RouterLab, node: str, address: str, content: bytes) -> None:
        self._address, self._content = address, content
        self._lab, self._node = lab, node
        self._server = inside(lab, node, lambda: socket.create_server((address, 2121)))
        self._server.settimeout(LIMIT_S)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> "PassiveFtpServer":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        connection, _ = self._server.accept()
        data: socket.socket | None = None
        with connection, connection.makefile("rw", newline="\r\n") as talk:

            def say(line: str) -> None:
                talk.write(line + "\n")
                talk.flush()

            say("220 ready")
            for line in talk:
                verb = line.split()[0].upper()
                if verb == "PASV":
                    data = inside(self._lab, self._node, lambda: socket.create_server((self._address, 0)))
                    high, low = divmod(data.getsockname()[1], 256)
                    say(f"227 Entering Passive Mode ({self._address.replace('.', ',')},{high},{low})")
                elif verb == "RETR" and data is not None:
                    say("150 coming")
                    with data, data.accept()[0] as stream:
                        stream.sendall(self._content)
                    say("226 done")
                elif verb == "QUIT":
                    say("221 bye")
                    return
                else:
                    say("200 yes" if verb == "TYPE" else "230 welcome")


def fetch_by_ftp(lab: RouterLab, node: str, address: str) -> bytes:
    """Fetch the file in passive mode, as a host behind the router does."""
    kept = io.BytesIO()

    def fetch() -> None:
        with ftplib.FTP() as client:
            client.connect(address, 2121, timeout=LIMIT_S)
            client.login()
            client.retrbinary("RETR file", kept.write)
            client.quit()

    inside(lab, node, fetch)
    return kept.getvalue()
