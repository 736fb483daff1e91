"""Carries a plan out in the kernel, whole or not at all."""

import errno
import os
from collections.abc import Callable, Iterable
from typing import Final

from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.control.configuration.plan import Plan, PlanError
from services.control.configuration.running import routes_through
from services.control.configuration.state import AddressStep, LinkStep, RouteStep, Step, route_words, ways
from services.control.kernel_changes import KernelChanges
from services.control.kernel_types import Link
from services.control.mirror import KernelMirror
from services.control.rib import Rib
from services.control.rpc_params import AddressParams, LinkParams, RouteSpec

_ROUNDS: Final = 3
"""What the kernel takes along with an address or an interface is put back in the second one."""
_FOLLOW_EVERY: Final = 512
"""The announcements of so many changes are taken in at one go: half of what `KernelMirror.follow` takes at least."""
_GONE_ALREADY: Final = (os.strerror(errno.ESRCH), os.strerror(errno.EADDRNOTAVAIL))


class KernelApplication:
    """One application: `run` it, and `take_back` where something behind it fails."""

    def __init__(self, rib: Rib, mirror: KernelMirror, changes: KernelChanges) -> None:
        self._rib = rib
        self._mirror = mirror
        self._changes = changes
        self._done: list[Step] = []
        self._endangered: list[RouteSpec] = []
        """Others' routes that the kernel drops when an interface goes down or loses its last address."""

    def run(self, make_plan: Callable[[], Plan]) -> None:
        """Carry out what `make_plan` says, again until it says nothing.

        :raises RpcRefusedError: the kernel refused a step; all is as it was before.
        """
        try:
            for _ in range(_ROUNDS):
                steps = make_plan().steps
                for step in steps:
                    self._note_endangered(step)
                    self._do(step)
                    self._done.append(step)
                    if not len(self._done) % _FOLLOW_EVERY:
                        self._mirror.follow()
                self._mirror.follow()
                if not steps:
                    return
            if left := make_plan().lines:
                raise _refused(f"the kernel does not keep it: {left[0]}")
        except (RpcRefusedError, PlanError) as error:
            message = error.error.message if isinstance(error, RpcRefusedError) else str(error)
            raise _refused(message + self.take_back()) from error

    def take_back(self) -> str:
        """Undo what was done, and return in words what became of that."""
        self._mirror.follow()
        failures = []
        for step in reversed(self._done):
            try:
                self._do(step.inverse)
            except RpcRefusedError as refused:
                failures.append(f"{step.inverse.lines}: {refused.error.message}")
        self._mirror.follow()
        failures += self._put_back(self._endangered)
        self._done.clear()
        return f"; NOT all is as it was: {'; '.join(failures)}" if failures else "; nothing was changed"

    def _note_endangered(self, step: Step) -> None:
        match step:
            case LinkStep(dev=dev, after=after) if after.up is False:
                self._mirror.follow()
            case AddressStep(dev=dev, comes=False, passing=False):
                self._mirror.follow()
                if any(len(self._rib.addresses.get(link.index, [])) > 1 for link in self._links_named(dev)):
                    return
            case _:
                return
        self._endangered += routes_through(self._rib, dev)

    def _links_named(self, name: str) -> list[Link]:
        return [link for link in self._rib.links.values() if link.name == name]

    def _put_back(self, routes: Iterable[RouteSpec]) -> list[str]:
        failures = []
        there: dict[str, list[RouteSpec]] = {}
        for route in routes:
            dev = ways(route)[0].dev or ""
            if dev not in there:
                there[dev] = routes_through(self._rib, dev)
            if route not in there[dev]:
                try:
                    self._changes.change_route("add", route, self._rib.links)
                except RpcRefusedError as refused:
                    failures.append(f"{route_words(route)}: {refused.error.message}")
        self._mirror.follow()
        return failures

    def _do(self, step: Step) -> None:
        links = self._rib.links
        match step:
            case LinkStep(dev=dev, after=after):
                self._changes.change_link(LinkParams.model_construct(dev=dev, up=after.up, mtu=after.mtu), links)
            case AddressStep(dev=dev, address=address, comes=comes):
                params = AddressParams.model_construct(address=address, dev=dev)
                self._attempt(lambda: self._changes.change_address("add" if comes else "del", params, links), comes)
            case RouteStep(before=before, after=after):
                if after is None and before is not None:
                    self._attempt(lambda: self._changes.change_route("del", before, links), comes=False)
                elif after is not None:
                    self._changes.change_route("add" if before is None else "replace", after, links)

    def _attempt(self, change: Callable[[], None], comes: bool) -> None:
        """Change something; what shall go may have gone already, taken along by something else."""
        try:
            change()
        except RpcRefusedError as refused:
            if comes or not refused.error.message.startswith(_GONE_ALREADY):
                raise


def _refused(message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code="refused", message=message))
