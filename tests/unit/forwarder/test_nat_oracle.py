"""The compiled translator against a plain one: any traffic, either way, while time passes."""

import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings
from nat_rig import ACK, FIN, ICMP, INSIDE, MASQUERADE, OUT, OUTSIDE, RST, SYN, TCP, UDP, Datagram, NatBench, read

from services.common.nat_rules import NatRules
from tests.oracle.nat import Nat

HOSTS = ["192.168.1.2", "192.168.1.3"]
REMOTES = ["198.51.100.7", "198.51.100.8"]
PORTS = [1024, 1025, 30_000, 30_001, 59_999]

protocols = st.sampled_from([TCP, UDP, ICMP])
flags = st.sampled_from([SYN, ACK, FIN | ACK, RST])
data = st.binary(max_size=20)
checksums = st.sampled_from(["good", "good", "partial", "zero"])
outbound = st.tuples(
    st.just("out"), protocols, st.sampled_from(HOSTS), st.sampled_from(PORTS), st.sampled_from(REMOTES),
    st.sampled_from([53, 80]), flags, data, checksums,
)  # fmt: skip
inbound = st.tuples(
    st.just("in"), protocols, st.sampled_from(REMOTES), st.sampled_from([53, 80]), st.integers(0, 9), flags, data,
    checksums,
)  # fmt: skip
pause = st.tuples(st.just("wait"), st.sampled_from([1.0, 61.0, 241.0, 301.0, 7441.0]))
filterings = st.sampled_from(["endpoint-independent", "address-dependent", "address-and-port-dependent"])


def sendable(protocol: int, checksum: str) -> str:
    """Only UDP may have no checksum, and nobody leaves one of ICMP to the hardware."""
    if checksum == "zero":
        return "zero" if protocol == UDP else "good"
    return "good" if protocol == ICMP else checksum


class Pair:
    """The two, side by side."""

    def __init__(self, filtering: str, folder: Path) -> None:
        rules = NatRules.model_validate(MASQUERADE.model_dump() | {"filtering": filtering})
        self.router = NatBench(rules, folder=folder)
        self.oracle = Nat(OUT, filtering)

    def out(self, protocol, host, port, remote, dport, flags, data, checksum) -> None:
        dport = 0 if protocol == ICMP else dport
        sent = Datagram(protocol, host, port, remote, dport, flags, data, checksum=sendable(protocol, checksum))
        verdict, packet, _ = self.router.verdict(sent.packet(), INSIDE, sent.virtio())
        chosen = None
        if verdict == "FORWARDED":
            seen = read(packet, partial=sent.checksum == "partial")
            assert (seen.destination, seen.dport, seen.data) == (remote, dport, data)
            chosen = (seen.source, seen.sport)
        told = self.oracle.outbound(protocol, (host, port), (remote, dport), flags, chosen, self.router.now)
        assert told is None, (told, sent, verdict, chosen)

    def back(self, protocol, remote, sport, which, flags, data, checksum) -> None:
        """To one of the ports that are in use, or to one that is not."""
        ports = sorted({session.outside[1] for session in self.oracle.sessions if session.protocol == protocol})
        port = ports[which % len(ports)] if ports and which < 9 else 44_444
        sport = 0 if protocol == ICMP else sport
        sent = Datagram(
            protocol, remote, sport, OUT, port, flags, data, icmp_type=0, checksum=sendable(protocol, checksum)
        )
        verdict, packet, _ = self.router.verdict(sent.packet(), OUTSIDE, sent.virtio())
        inside = self.oracle.inbound(protocol, (remote, sport), port, flags, self.router.now)
        if inside is None:
            assert verdict in ("DROP_NAT_FILTERED", "DROP_NAT_NO_SESSION", "LOCAL"), (verdict, sent)
            return
        assert verdict in ("FORWARDED", "HANDED"), (verdict, sent)
        seen = read(packet, partial=sent.checksum == "partial")
        assert (seen.source, seen.sport, seen.destination, seen.dport) == (remote, sport, *inside)

    def wait(self, seconds: float) -> None:
        self.router.wait(seconds)
        self.router.translator.keep_house(self.router.now)
        self.oracle.expire(self.router.now)


@settings(max_examples=150, deadline=None)
@given(filterings, st.lists(st.one_of(outbound, outbound, inbound, inbound, pause), max_size=40))
def test_both_agree(filtering: str, steps: list[tuple]) -> None:
    """The same endpoints, the same refusals, the same ends; every checksum added up."""
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(filtering, Path(folder))
        actions = {"out": pair.out, "in": pair.back, "wait": pair.wait}
        for name, *values in steps:
            actions[name](*values)
        pair.oracle.expire(pair.router.now)
        live = pair.router.translator.sessions(pair.router.now, 0, 1000)[0]
        assert len(live) == len(pair.oracle.sessions)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=80), st.sampled_from([TCP, UDP, ICMP, 50, 33])), max_size=8))
def test_any_bytes_have_a_fate(payloads: list[tuple[bytes, int]]) -> None:
    """Whatever stands behind the header: it is translated or dropped, and never leaves with an inside address."""
    from nat_rig import HOST, REMOTE, ip_packet  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        router = NatBench(folder=Path(folder))
        for payload, protocol in payloads:
            verdict, packet, _ = router.verdict(ip_packet(protocol, HOST, REMOTE, payload), INSIDE)
            assert verdict == "FORWARDED" or verdict.startswith("DROP_NAT"), verdict
            if verdict == "FORWARDED":
                assert packet[12:16] == bytes((203, 0, 113, 1))
            router.verdict(ip_packet(protocol, REMOTE, OUT, payload), OUTSIDE)
