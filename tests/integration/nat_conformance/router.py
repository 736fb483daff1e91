"""The translating router under test, hopwire or the kernel with nft's masquerade, behind one set of verbs.

eth0 and eth1 are inside, eth2 is outside. By default what leaves by eth2 bears the first of its two addresses.
"""

import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from conformance.router import CONFIGURATION, HopwireRouter, KernelRouter, RouterUnderTest, hopwire_lab, kernel_lab
from router_lab import RouterLab, wait_for

from services.common import netns

OUTSIDE: Final = "eth2"
OUT: Final = "10.0.3.1"
"""The outside address of all inside hosts, by default."""
OUT2: Final = "10.0.3.10"
"""Another one."""
_SYSCTLS: Final[Mapping[str, tuple[str, ...]]] = {
    "udp_s": ("udp_timeout", "udp_timeout_stream"),
    "icmp_s": ("icmp_timeout",),
    "tcp_established_s": ("tcp_timeout_established",),
    "tcp_transitory_s": tuple(
        f"tcp_timeout_{state}" for state in ("syn_sent", "syn_recv", "fin_wait", "close_wait", "last_ack", "time_wait")
    ),
}
_CONNTRACK: Final = "net/netfilter/nf_conntrack_"
_NUMBERS: Final = {"udp": "17", "tcp": "6", "icmp": "1"}

Endpoint = tuple[str, int]


class Shown(NamedTuple):
    """A session as the router tells of it."""

    idle_s: float
    lifetime_s: float
    """How long it may be idle."""


class TranslatingRouter(RouterUnderTest):
    """What the rows need a translating router to be told and asked."""

    idle_resolution_s: float
    """How exactly `Shown.idle_s` is told."""

    @abstractmethod
    @contextmanager
    def use(self, **nat: Any) -> Iterator[None]:
        """Have other settings or more rules for a while: the keys of the configuration's `nat`."""

    @abstractmethod
    def shown(self, protocol: str, inside: Endpoint) -> list[Shown]:
        """Return what the router tells of the sessions that an inside endpoint has begun."""

    @abstractmethod
    def wait_until_none_waits(self) -> None:
        """Wait until no fragment waits for its first one any more."""

    def wait_until_ended(self, protocol: str, inside: Endpoint, limit_s: float = 20.0) -> None:
        """Wait until no session of an inside endpoint is left."""
        wait_for(f"no session of {inside}", lambda: not self.shown(protocol, inside), limit_s)


class HopwireTranslator(HopwireRouter, TranslatingRouter):
    """hopwire; the masquerade rule is given by RPC, settings by the configuration."""

    idle_resolution_s = 0.01

    def __init__(self, lab: RouterLab) -> None:
        super().__init__(lab)
        self.change("addr.add", address=f"{OUT2}/24", dev=OUTSIDE)
        self.control.ask("nat.add", masquerade=OUTSIDE)
        self._follow()

    def _follow(self) -> None:
        """Wait until the forwarder translates by what control was told."""

        def has_them() -> bool:
            table = self.control.ask("nat.show")["table"]
            return bool(table["in_use"]) and not table["problems"]

        self.control.wait_until_followed()
        wait_for("the forwarder translates", has_them)

    @contextmanager
    def use(self, **nat: Any) -> Iterator[None]:
        self.control.ask("config.apply", text=f"{CONFIGURATION}nat: {json.dumps(nat)}\n", source="of a test")
        self._follow()
        try:
            yield
        finally:
            self.control.ask("config.apply", text=CONFIGURATION, source="of before")
            self._follow()

    def wait_until_none_waits(self) -> None:
        wait_for("no fragment waits", lambda: self.control.counts().get("WAITING") == 0)

    def shown(self, protocol: str, inside: Endpoint) -> list[Shown]:
        own = {"src": inside[0], "sport": inside[1]}
        found: list[Shown] = []
        following = 0
        while True:
            answer = self.control.ask("nat.sessions", first=following)
            for one in answer["sessions"]:
                if one["protocol"] == protocol and own.items() <= one["original"].items():
                    found.append(Shown(one["idle_s"], one["idle_s"] + one["expires_s"]))
            following = answer["next"]
            if not following:
                return found


class KernelTranslator(KernelRouter, TranslatingRouter):
    """Linux with conntrack and nft's masquerade, and nothing else: the control group.

    It has no settings for mapping and filtering, nor for the sessions of a namespace: rows that ask for them differ.
    """

    idle_resolution_s = 1.0

    def __init__(self, lab: RouterLab) -> None:
        super().__init__(lab)
        self.change("addr.add", address=f"{OUT2}/24", dev=OUTSIDE)
        self._write({})

    def _nft(self, text: str) -> None:
        done = self.lab.run("router", ["nft", text], limit_s=20.0)
        assert done.returncode == 0, done.stderr

    def _write(self, nat: Mapping[str, Any]) -> None:
        """Write the ruleset anew; connections go on."""
        before, after = [], []
        for one in nat.get("one_to_one", ()):
            before.append(f"ip daddr {one['outside']} dnat to {one['inside']}")
            after.append(f'oifname "{OUTSIDE}" ip saddr {one["inside"]} snat to {one["outside"]}')
        for one in nat.get("forward", ()):
            target = f"{one['to']}:{one.get('to_port', one['port'])}"
            before.append(f"ip daddr {one['address']} {one['protocol']} dport {one['port']} dnat to {target}")
        pool = next((one["addresses"] for one in nat.get("masquerade", ()) if "addresses" in one), None)
        if pool:
            numbered = ", ".join(f"{number} : {address}" for number, address in enumerate(pool))
            after.append(f'oifname "{OUTSIDE}" snat to jhash ip saddr mod {len(pool)} map {{ {numbered} }}')
        elif "first_port" in nat:
            after.append(
                f'oifname "{OUTSIDE}" meta l4proto {{ tcp, udp }} masquerade to :{nat["first_port"]}-{nat["last_port"]}'
            )
        after.append(f'oifname "{OUTSIDE}" masquerade')
        chains = {"before": ("prerouting priority dstnat", before), "after": ("postrouting priority srcnat", after)}
        lines = ["table ip translation", "delete table ip translation", "table ip translation {"]
        for chain, (hook, rules) in chains.items():
            lines += [f"chain {chain} {{", f"type nat hook {hook};", *rules, "}"]
        self._nft("\n".join([*lines, "}"]))

    def _sysctl(self, name: str) -> int:
        with netns.inside(self.lab.namespace("router")):
            return int(Path("/proc/sys", _CONNTRACK + name).read_text(encoding="ascii"))

    @contextmanager
    def use(self, **nat: Any) -> Iterator[None]:
        names = [name for key in nat.get("timeouts", ()) for name in _SYSCTLS[key]]
        before = {_CONNTRACK + name: self._sysctl(name) for name in names}
        for key, seconds in nat.get("timeouts", {}).items():
            self.set_kernel({_CONNTRACK + name: int(seconds) for name in _SYSCTLS[key]})
        self._write(nat)
        try:
            yield
        finally:
            self.set_kernel(before)
            self._write({})

    def wait_until_none_waits(self) -> None:
        pass  # what it holds is in nobody's way

    def shown(self, protocol: str, inside: Endpoint) -> list[Shown]:
        """Read /proc/net/nf_conntrack: ipv4 2 udp 17 REMAINING [STATE] src= dst= sport= dport= …"""
        with netns.inside(self.lab.namespace("router")):
            lines = Path("/proc/thread-self/net/nf_conntrack").read_text(encoding="ascii").splitlines()
        name = "id" if protocol == "icmp" else "sport"
        found: list[Shown] = []
        for line in lines:
            words = line.split()
            fields = dict(reversed([word.split("=", 1) for word in words if "=" in word]))  # the first of each counts
            own = (fields.get("src"), fields.get(name)) == (inside[0], str(inside[1]))
            if words[3] == _NUMBERS[protocol] and own:
                lifetime = self._timeout_of(protocol, words, streaming="[ASSURED]" in words)
                found.append(Shown(lifetime - int(words[4]), lifetime))
        return found

    def _timeout_of(self, protocol: str, words: list[str], *, streaming: bool) -> int:
        if protocol == "tcp":
            return self._sysctl(f"tcp_timeout_{words[5].lower()}")
        return self._sysctl("icmp_timeout" if protocol == "icmp" else f"udp_timeout{'_stream' if streaming else ''}")


@contextmanager
def translating(name: str) -> Iterator[TranslatingRouter]:
    """Build the three hosts around `hopwire` or the `kernel`."""
    if name == "kernel":
        with kernel_lab() as lab:
            yield KernelTranslator(lab)
        return
    with hopwire_lab("t") as lab:
        yield HopwireTranslator(lab)
