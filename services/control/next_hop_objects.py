"""The kernel's nexthop objects (ip-nexthop(8)), and what routes that name one have for next hops."""

from collections.abc import Iterable
from typing import NamedTuple

from services.control.kernel_types import (
    KernelNextHop,
    NextHopObject,
    NextHopObjectChanged,
    NextHopObjectGone,
    RouteInfo,
)


class Effect(NamedTuple):
    """What a change of an object means for the routes."""

    is_silent: bool
    """Routes that use it changed, or went, and the kernel tells nothing of them."""
    is_felt: bool
    """The next hops of some route are others now."""


class NextHopObjects:
    """The objects by number."""

    def __init__(self, objects: Iterable[NextHopObject] = ()) -> None:
        self._objects = {one.id: one for one in objects}

    def apply(self, event: NextHopObjectChanged | NextHopObjectGone, infos: Iterable[RouteInfo]) -> Effect:
        """Follow an announcement.

        :param infos: what the routes say that there are.
        """
        if isinstance(event, NextHopObjectChanged):
            number, in_silence = event.object.id, event.in_silence
            self._objects[number] = event.object
        else:
            number, in_silence = event.id, True
            self._objects.pop(number, None)
        used = _named(infos)
        groups = [group for each in used if (group := self._objects.get(each))]
        members = {member for group in groups for member, _ in group.members}
        return Effect(number in used and in_silence, number in used | members)

    def next_hops(self, info: RouteInfo) -> tuple[KernelNextHop, ...]:
        """Return the next hops of a route: those of its nexthop object, where it has one.

        The route itself names them only with net.ipv4.nexthop_compat_mode, and weights above 256 not even then.
        """
        known = self._objects.get(info.next_hop_object)
        if known is None:
            return info.next_hops
        objects = [(self._objects.get(member), weight) for member, weight in known.members or ((known.id, 1),)]
        hops = tuple(one.next_hop._replace(weight=weight) for one, weight in objects if one and one.next_hop)
        return hops if len(hops) > 1 else tuple(hop._replace(weight=1) for hop in hops)

    def are_missing(self, infos: Iterable[RouteInfo]) -> bool:
        """Tell whether routes name objects that are not known."""
        return not _named(infos) <= self._objects.keys()


def _named(infos: Iterable[RouteInfo]) -> set[int]:
    return {info.next_hop_object for info in infos if info.next_hop_object}
