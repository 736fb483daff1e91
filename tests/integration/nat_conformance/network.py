"""Inside hosts behind h1 and h2, outside ones behind h3, and the translating router between them."""

import itertools
from typing import Final

from conformance.datagrams import IPV4, icmp_about, ip_bytes, plain_udp
from conformance.network import Network
from conformance.station import Station, Wanted
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from nat_conformance.messages import Endpoint, check, ends, udp
from nat_conformance.router import OUT, OUT2, TranslatingRouter

_LINKS: Final = 10  # 10.0.N.0/24 is the link of station N
_FAR: Final = 17  # 172.17.0.0/16 and the two behind it lie behind the stations
_SENTINEL_PORTS: Final = (33_000, 33_001)


class NatNetwork(Network):
    """h1 and h2 are inside, h3 is outside; each plays as many hosts as a test wants."""

    router: TranslatingRouter

    def __init__(self, router: TranslatingRouter) -> None:
        self._sentinel_hosts = {f"h{number}": f"172.{16 + number}.255.1" for number in (1, 2, 3)}
        self._passed: list[tuple[Station, Wanted]] = []
        self._ports = itertools.cycle(range(20_000, 60_000, 2))
        super().__init__(router)

    def sentinel(self, sender: Station, receiver: Station) -> tuple[bytes, Wanted]:
        """Return a datagram of one session for each two hosts: it is known by all but its source."""
        hosts = self._sentinel_hosts
        datagram = plain_udp(hosts[sender.name], hosts[receiver.name], ports=_SENTINEL_PORTS)
        return datagram, arrives(datagram, to=hosts[receiver.name])

    def port(self) -> int:
        """Return an even port of those that are given out, free and never used before; and so is the odd one above."""
        return next(self._ports)

    def inside(self, station: Station | None = None, port: int | None = None) -> Endpoint:
        """Return an endpoint of a new inside host (behind h1 unless said); its port is free outside unless given."""
        return (station or self.h1).far_host(), self.port() if port is None else port

    def outside(self, port: int = 7000) -> Endpoint:
        """Return an endpoint of a new outside host."""
        return self.h3.far_host(), port

    def host_station(self, address: str) -> Station:
        """Return the station that plays a host."""
        first, second, third, _ = map(int, address.split("."))
        return self.stations[third - 1 if first == _LINKS else second - _FAR]

    # what is sent must come out once, and translated right

    def passes(self, datagram: Packet, to: Station, by: Station | None = None) -> Packet:
        """Send a datagram by the station that plays its source, and return the one that comes out of it."""
        (by or self.host_station(datagram.src)).send_ip(datagram)
        wanted = arrives(datagram)
        frame = to.wait_to_hear("the translated datagram", wanted)[0]
        self._passed.append((to, wanted))
        check([bytes(frame)])
        return IP(ip_bytes(frame)[: frame[IP].len])

    def goes_out(self, datagram: Packet) -> Packet:
        """Send a datagram from inside, and return what an outside host gets."""
        seen = self.passes(datagram, self.h3)
        assert seen.dst == datagram.dst
        assert seen.src in (OUT, OUT2)
        assert seen.ttl == datagram.ttl - 1
        return seen

    def comes_in(self, datagram: Packet, to: str) -> Packet:
        """Send a datagram from outside, and return what an inside host gets."""
        seen = self.passes(datagram, self.host_station(to), self.h3)
        assert seen.dst == to
        assert seen.src == datagram.src
        assert seen.ttl == datagram.ttl - 1
        return seen

    def falls(self, *datagrams: Packet, silently: bool = True) -> None:
        """Send datagrams that nobody must get any of; nor must their senders be told, unless said."""
        before = {station: len(station.listen()) for station in self.stations}
        for datagram in datagrams:
            self.host_station(datagram.src).send_ip(datagram)
        self.flush()
        heard = [frame for station in self.stations for frame in station.listen()[before[station] :]]
        for datagram in datagrams:
            kinds = (arrives(datagram), icmp_about(datagram), answers(datagram)) if silently else (arrives(datagram),)
            assert not [Ether(frame) for frame in heard for wanted in kinds if wanted(frame)]

    def is_not_reached(self, datagram: Packet) -> None:
        """Send a datagram from outside to the router, and see it reach nobody; the router may answer."""
        self.falls(datagram, silently=False)

    def check_all(self) -> None:
        """Check that what passed did so once, and that all checksums of what was heard are right."""
        self.flush()
        heard = {station: station.listen() for station in self.stations}
        for to, wanted in self._passed:
            places = [station for station, frames in heard.items() for frame in frames if wanted(frame)]
            assert places == [to]
        check([frame for frames in heard.values() for frame in frames])

    def forget(self) -> None:
        super().forget()
        self._passed.clear()

    # UDP in short

    def mapped(self, inside: Endpoint, remote: Endpoint) -> Endpoint:
        """Send UDP from an inside endpoint to an outside one; return the outside endpoint that it comes from."""
        return ends(self.goes_out(udp(inside, remote)))[0]

    def reaches(self, remote: Endpoint, outside: Endpoint, inside: Endpoint) -> None:
        """Send UDP from an outside host to an outside endpoint, and see it arrive at an inside one."""
        assert ends(self.comes_in(udp(remote, outside), inside[0])) == (remote, inside)

    def is_filtered(self, remote: Endpoint, outside: Endpoint) -> None:
        """Send UDP from an outside host to an outside endpoint, and see it go nowhere."""
        self.falls(udp(remote, outside))


def arrives(datagram: Packet | bytes, to: str | None = None) -> Wanted:
    """Any frame with this datagram or a fragment of it, whoever it is from and to: identification and protocol.

    :param to: only to this address.
    """
    data = bytes(datagram)
    key = (data[4:6], data[9:10])
    destination = bytes(map(int, to.split("."))) if to else None
    return lambda frame: (
        frame[12:14] == IPV4 and (frame[18:20], frame[23:24]) == key and destination in (None, frame[30:34])
    )


def answers(datagram: Packet) -> Wanted:
    """Any frame of the router's own to the sender of a datagram, of the same protocol: a reset, an answer."""
    data = bytes(datagram)
    return lambda frame: (
        (frame[12:14], frame[23:24]) == (IPV4, data[9:10]) and frame[26:34] == data[16:20] + data[12:16]
    )
