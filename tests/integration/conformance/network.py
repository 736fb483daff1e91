"""Three hosts around the router under test, and when a test may say that nothing more comes."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from router_lab import kernel, wait_for
from scapy.packet import Packet

from conformance.datagrams import arp, carries, echo, echo_reply, plain_udp, udp
from conformance.router import RouterUnderTest
from conformance.station import LOAD_PORT, Station, Wanted

_AGAIN_S: Final = 0.5
"""How long a sentinel may be under way before it is sent again: a flood before it may have used up a budget."""
_LOAD_PER_S: Final = 20_000
_LOAD_SEEN: Final = 100
_Sentinel = tuple[Callable[[], None], Station, Wanted]
"""How it is sent, who hears what comes of it, and what that is."""


class Network:
    """h1, h2, h3 and the router between them."""

    def __init__(self, router: RouterUnderTest) -> None:
        self.router = router
        self.stations = tuple(Station(router.lab, number) for number in (1, 2, 3))
        self.h1, self.h2, self.h3 = self.stations
        self.flush()  # the router knows the hosts' MACs from now on

    def close(self) -> None:
        for station in self.stations:
            station.close()

    def forget(self) -> None:
        for station in self.stations:
            station.forget()

    def flush(self, stations: Iterable[Station] = ()) -> None:
        """Return when the router has done all that frames sent before have it do, and the hosts have heard it.

        First what is answered here, behind exceptions; then what is forwarded, behind everything that left before.
        Not in it: what waits for an answer to ARP.
        """
        among = tuple(stations) or self.stations
        awaited: list[_Sentinel] = []
        for station in among:
            request = echo(station.address, station.gateway)
            awaited.append((lambda one=station, that=request: one.send_ip(that), station, echo_reply(request)))
            reply = arp(op=2, psrc=station.gateway)
            awaited.append((lambda one=station: one.send_arp(pdst=one.gateway), station, reply))
        _until_heard(awaited)
        awaited = []
        for sender, receiver in itertools.permutations(among, 2):
            datagram, wanted = self.sentinel(sender, receiver)
            awaited.append((lambda one=sender, that=datagram: one.send_ip(that), receiver, wanted))
        _until_heard(awaited)

    def sentinel(self, sender: Station, receiver: Station) -> tuple[bytes, Wanted]:
        """Return a datagram from one host to another, and what it is recognized by when it arrives."""
        datagram = plain_udp(sender.far_host(), receiver.far_host())
        return datagram, carries(datagram)

    def udp(self, size: int = 64, **fields: object) -> Packet:
        """Return a datagram from a host behind h1 to one behind h2, addresses never used before unless given."""
        source = fields.pop("src", None) or self.h1.far_host()
        destination = fields.pop("dst", None) or self.h2.far_host()
        return udp(str(source), str(destination), size, **fields)

    def forwarded(self, datagram: Packet, sender: Station | None = None, receiver: Station | None = None) -> Packet:
        """Send a datagram (h1 to h2 unless said) and return the one frame that comes out of it."""
        to = receiver or self.h2
        (sender or self.h1).send_ip(datagram)
        to.wait_to_hear("the forwarded datagram", carries(datagram))
        self.flush()
        (frame,) = to.heard(carries(datagram))
        return frame

    def resolved_host(self) -> tuple[str, str]:
        """Return address and MAC of a new host on h2's link, played by the test, that the router has just resolved."""
        host = self.h2.played_host()
        mac = self.h2.played_mac(host)
        datagram = self.udp(dst=host)
        self.h1.send_ip(datagram)
        self.h2.wait_to_hear("a request", arp(op=1, pdst=host))
        self.h2.answer(host, mac)
        (frame,) = self.h2.wait_to_hear("the datagram", carries(datagram))
        assert frame.dst == mac
        return host, mac

    def set_carrier(self, station: Station, *, up: bool) -> None:
        """Pull the plug at a host's end of its link, or put it in; return when the router has noticed."""
        with kernel(self.router.lab, station.name) as host:
            (index,) = host.link_lookup(ifname="eth0")
            host.link("set", index=index, state="up" if up else "down")
        self.wait_for_carrier(station, up=up)

    def wait_for_carrier(self, station: Station, *, up: bool) -> None:
        """Wait until the router's end of a link has a carrier, or none, and the router has noticed."""
        wanted = "UP" if up else "DOWN"
        with kernel(self.router.lab, "router") as router:
            (index,) = router.link_lookup(ifname=station.interface)
            wait_for(
                f"{station.interface} is {wanted}",
                lambda: router.link("get", index=index)[0].get("operstate") in (wanted, f"LOWERLAYER{wanted}"),
            )
        self.router.wait_until_noticed(station.interface, up=up)

    def take_down(self, station: Station) -> None:
        """Set the router's interface down."""
        self.router.change("link.set", dev=station.interface, up=False)

    def bring_up(self, station: Station) -> None:
        """Set the router's interface up again, and the route behind it that went with the link."""
        self.router.change("link.set", dev=station.interface, up=True)
        self.wait_for_carrier(station, up=True)
        self.router.change("route.replace", dst=station.far, via=station.address)
        self.flush()

    def heard_anywhere(self, wanted: Wanted) -> list[Packet]:
        """Return what all hosts have heard of a kind, after a flush."""
        self.flush()
        return [frame for station in self.stations for frame in station.heard(wanted)]

    def paced(self, station: Station, frames: Iterable[Callable[[], None]], each: int = 16) -> None:
        """Send many frames, and wait for a sentinel behind every few: no budget of a batch is used up."""
        for number, send in enumerate(frames, start=1):
            send()
            if number % each == 0:
                request = echo(station.address, station.gateway)
                _until_heard([(lambda that=request: station.send_ip(that), station, echo_reply(request))])


def _until_heard(sentinels: Sequence[_Sentinel]) -> None:
    """Send sentinels, each again where it was dropped, until one more frame of each kind is heard."""

    def count(station: Station, wanted: Wanted) -> int:
        return sum(1 for frame in station.listen() if wanted(frame))

    before = [count(station, wanted) for _, station, wanted in sentinels]
    sent_at = [-_AGAIN_S] * len(sentinels)
    awaited = set(range(len(sentinels)))

    def all_heard() -> bool:
        for number in tuple(awaited):
            send, station, wanted = sentinels[number]
            if time.monotonic() - sent_at[number] >= _AGAIN_S:
                send()
                sent_at[number] = time.monotonic()
            if count(station, wanted) > before[number]:
                awaited.remove(number)
        return not awaited

    wait_for("all sentinels are heard", all_heard)


class Load:
    """A bounded stream of UDP from h3 to h2 beside the tests; it pauses so that the frames can be counted."""

    def __init__(self, network: Network) -> None:
        h2, h3 = network.h2, network.h3
        command = [sys.executable, str(Path(__file__).with_name("load.py"))]
        command += ["eth0", h3.router_mac, h3.far_host(), h2.far_host(), str(LOAD_PORT), str(_LOAD_PER_S)]
        self._lab = network.router.lab
        self._process: subprocess.Popen[str] = self._lab.popen("h3", command)

    def pause(self) -> None:
        """Return when no more is sent."""
        os.kill(self._process.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self._process.pid}/stat")
        wait_for("the load has stopped", lambda: stat.read_text(encoding="ascii").rpartition(") ")[2][0] == "T")

    def go_on(self) -> None:
        """Return when it arrives."""
        os.kill(self._process.pid, signal.SIGCONT)
        with kernel(self._lab, "h2") as host:
            (index,) = host.link_lookup(ifname="eth0")

            def received() -> int:
                (link,) = host.link("get", index=index)
                return int(link.get("stats64")["rx_packets"])

            before = received()
            wait_for("the load arrives", lambda: received() > before + _LOAD_SEEN)

    def stop(self) -> None:
        assert self._process.poll() is None, "the load has ended by itself"
        self.go_on()
        self._lab.end(self._process)
