"""Announcing and defending the router's own addresses (RFC 5227 sections 2.3 and 2.4)."""

import math
from collections.abc import Iterable
from typing import Final

from services.arp.actions import Action, Conflict, SendArp
from services.arp.deadlines import Deadlines, Key
from services.arp.links import Link, Links
from services.common.wire import ethernet
from services.common.wire.arp import REQUEST, ArpMessage

ANNOUNCE_INTERVAL_S: Final = 2.0  # RFC 5227 section 1.1; ANNOUNCE_NUM is 2: one at once, one after the interval
DEFEND_INTERVAL_S: Final = 10.0  # RFC 5227 section 1.1


class Announcer:
    """Which own addresses are still to be announced, and when each was defended last."""

    def __init__(self) -> None:
        """Begin with none."""
        self._second: Deadlines = Deadlines()
        self._defended_at: dict[Key, float] = {}

    def announce(self, link: Link, addresses: Iterable[int], now: float) -> list[Action]:
        """Announce addresses that an interface has from now on: at once, and again after the interval."""
        actions: list[Action] = []
        for address in sorted(addresses):
            self._second.set((link.index, address), now + ANNOUNCE_INTERVAL_S)
            actions.append(_announcement(link, address))
        return actions

    def forget(self, interface: int, addresses: Iterable[int]) -> None:
        """Announce and defend addresses no longer."""
        for address in addresses:
            self._second.cancel((interface, address))
            self._defended_at.pop((interface, address), None)

    def next_deadline(self) -> float:
        """Return when `on_time` is due, infinity where nothing is left to do."""
        return self._second.earliest()

    def on_time(self, links: Links, now: float) -> list[Action]:
        """Announce again what is due."""
        due = ((links.get(interface), address) for interface, address in self._second.take_due(now))
        return [_announcement(link, address) for link, address in due if link is not None]

    def on_claim(self, link: Link, message: ArpMessage, now: float) -> list[Action]:
        """Answer a message whose sender says that one of the interface's own addresses is its own.

        The router never gives way (RFC 5227 section 2.4 c), but defends at most once in `DEFEND_INTERVAL_S`.
        """
        key = (link.index, message.sender_ip)
        if message.sender_mac == link.mac or now - self._defended_at.get(key, -math.inf) < DEFEND_INTERVAL_S:
            return []
        self._defended_at[key] = now
        return [Conflict(*key, message.sender_mac), _announcement(link, message.sender_ip)]


def _announcement(link: Link, address: int) -> SendArp:
    message = ArpMessage(REQUEST, link.mac, address, ethernet.NO_MAC, address)
    return SendArp(link.index, ethernet.BROADCAST, message)
