"""The configuration in force: applied as a whole, taken back unless it is confirmed, kept for the next control."""

import errno
import os
import time
from typing import Any, Final, Protocol

from services.common.bus import RpcRefusedError
from services.common.errors import HopwireError
from services.common.messages import RpcError
from services.control.config import Config
from services.control.configuration.carry_out import KernelApplication
from services.control.configuration.difference import setting_lines
from services.control.configuration.origin import Origin
from services.control.configuration.plan import Plan, PlanError, plan
from services.control.configuration.record import MAX_HISTORY, Record, RecordStore, Unconfirmed, Version, boot_id
from services.control.configuration.running import running
from services.control.configuration.settings import RpcSettings
from services.control.configuration.state import Desired, RouteKey, RouteStep, desired
from services.control.kernel_changes import KernelChanges
from services.control.mirror import KernelMirror
from services.control.names import RTPROT_CONFIGURATION
from services.control.rib import Rib
from services.control.rpc_params import RouteSpec

RETRY_S: Final = 10.0
"""The pause before what could not be taken back is tried again."""


class Effects(Protocol):
    """What of a configuration is control's own to do."""

    def in_force(self, config: Config) -> Config:
        """Return a configuration with what was changed since by `config set` and `link set`."""

    def listen(self, rpc: RpcSettings | None) -> None:
        """Listen for other machines, or not.

        :raises HopwireError: that is not possible; all is as before.
        """

    def adopt(self, config: Config) -> None:
        """Do as a configuration says from now on."""


class Configuration:
    """What is in force, and how it becomes another one.

    :ivar config: the configuration in force, with the values of flags and environment.
    """

    def __init__(self, origin: Origin, store: RecordStore, log: Any) -> None:
        """Decide what is in force at the start: after a crash what was, unless the file has changed; else the file.

        :raises HopwireError: the file cannot be used.
        """
        self.origin = origin
        self._store = store
        self.log = log
        self.record = store.read()
        self._problem = ""
        crashed = bool(self.record.current.at) and not self.record.ended
        self._goal, file = self._choose(crashed=crashed)
        self.config = self._usable_config(file)
        self._leaves_kernel_alone = origin.path is None and self._goal is file
        self.record = self.record.model_copy(update={"file": file.text, "ended": False})
        self._started = False
        self._tried_with: Any = None

    def _choose(self, *, crashed: bool) -> tuple[Version, Version]:
        """Return the configuration to begin with, and control's own file."""
        try:
            file = self.origin.read()
        except HopwireError:
            if not crashed:
                raise
            return self.record.current, Version(text=self.record.file)
        goes_on = self.record.unconfirmed is not None or (crashed and file.text == self.record.file)
        return (self.record.current if goes_on else file), file

    def _usable_config(self, file: Version) -> Config:
        try:
            return self.origin.config(self._goal)
        except HopwireError as error:
            if self._goal is file:
                raise
            self._problem = f"what was in force is not used: {error.message}"
            self._goal = file
            return self.origin.config(file)

    def connect(self, rib: Rib, mirror: KernelMirror, changes: KernelChanges, effects: Effects) -> None:
        """Say what it works on."""
        self._rib = rib
        self._mirror = mirror
        self._changes = changes
        self._effects = effects

    # --- The loop of the service --------------------------------------------------------------------------------------

    def turn(self, now: float) -> None:
        """Do what is due, once the kernel is mirrored."""
        if self._rib.unsettled:
            return
        if not self._started:
            self._start(now)
        elif (unconfirmed := self.record.unconfirmed) is not None and now >= unconfirmed.deadline:
            self._go_back_by_itself(now)

    def end(self) -> None:
        """Leave word that control has ended as it should; nothing is left where the next start needs no word."""
        try:
            if self.record.tells_nothing:
                self._store.forget()
                return
            self._write(self.record.model_copy(update={"ended": True}))
        except HopwireError as error:
            self.log.warning(error.message)

    @property
    def warnings(self) -> list[str]:
        """What the user should know."""
        texts = [self._store.warning, self._problem]
        if (unconfirmed := self.record.unconfirmed) is not None:
            at = time.strftime("%H:%M:%S", time.gmtime(unconfirmed.until))
            texts.append(
                f"the configuration {self.record.current.source} goes back at {at} UTC unless `config confirm`"
            )
        return [text for text in texts if text]

    def _start(self, now: float) -> None:
        """Apply the configuration of the start; where the kernel refuses, again when its interfaces change."""
        unconfirmed = self.record.unconfirmed
        if unconfirmed is not None and (unconfirmed.boot != boot_id() or now >= unconfirmed.deadline):
            self._started = True
            self._go_back_by_itself(now)
            return
        present = [(link.name, link.flags, self._rib.addresses.get(link.index)) for link in self._rib.links.values()]
        if present == self._tried_with:
            return
        history = self.record.history
        if self._goal.text != self.record.current.text and self.record.current.at:
            history = self.record.pushed()
        try:
            if self._leaves_kernel_alone:
                if self.record.current.at:
                    self._write(self.record.model_copy(update={"current": self._goal, "history": history}))
            else:
                self._change(self._goal, self.config, history, unconfirmed=unconfirmed)
        except (RpcRefusedError, HopwireError) as error:
            self._tried_with = present
            reason = error.error.message if isinstance(error, RpcRefusedError) else error.message
            self._problem = f"the configuration {self._goal.source} is not applied, and tried again when an interface "
            self._problem += f"changes: {reason}"
            return
        self._started = True
        self._problem = ""

    # --- What users ask for -------------------------------------------------------------------------------------------

    def apply(self, version: Version, confirm_s: float | None, now: float) -> list[str]:
        """Apply a configuration, and return in words what that changed.

        :param confirm_s: seconds after which it goes back by itself unless it is confirmed.
        :raises RpcRefusedError: it is wrong, or was refused; all is as before.
        """
        self._refuse_while_unconfirmed()
        config = self._checked(version)
        lines = self.difference(version)
        unconfirmed = None if confirm_s is None else self._unconfirmed(confirm_s, now)
        is_another = version.text != self.record.current.text or unconfirmed is not None
        history = self.record.pushed() if is_another else self.record.history
        self._change(version, config, history, unconfirmed=unconfirmed)
        self._started = True
        self._problem = ""
        return lines

    def reload(self, now: float) -> None:
        """Apply control's own file again (SIGHUP); what is wrong is logged."""
        if self.origin.path is None:
            self.log.warning("nothing to apply again: control was started without --config")
            return
        try:
            version = self.origin.read()
            self.apply(version, None, now)
            self.record = self.record.model_copy(update={"file": version.text})
            self._write(self.record)
            self.log.info("applied again", file=str(self.origin.path))
        except HopwireError as error:
            self.log.warning("not applied again", reason=error.message)
        except RpcRefusedError as refused:
            self.log.warning("not applied again", reason=refused.error.message)

    def confirm(self) -> None:
        """Keep the configuration that waits for it.

        :raises RpcRefusedError: none does.
        """
        if self.record.unconfirmed is None:
            raise _refused(errno.ENOENT, "no configuration waits to be confirmed")
        self._keep(self.record.model_copy(update={"unconfirmed": None}))

    def rollback(self, steps: int, now: float, confirm_s: float | None) -> Version:
        """Go back to the configuration so many before this one, and return it.

        :raises RpcRefusedError: there is none, or it was refused.
        """
        history = self.record.history
        if steps > len(history):
            raise _refused(
                errno.ENOENT, f"configuration {steps} before this one; {len(history)} of at most {MAX_HISTORY} are kept"
            )
        version = history[steps - 1]
        if self.record.unconfirmed is not None:
            if steps != 1 or confirm_s is not None:
                self._refuse_while_unconfirmed()
            self._go_back()
        else:
            again = version.model_copy(update={"at": time.time()})
            unconfirmed = None if confirm_s is None else self._unconfirmed(confirm_s, now)
            self._change(again, self._checked(version), self.record.pushed(), unconfirmed=unconfirmed)
        return version

    def difference(self, version: Version) -> list[str]:
        """Return in words what applying a configuration would change in the kernel.

        :raises RpcRefusedError: it is wrong, or the kernel could not have it.
        """
        config = self._checked(version)
        self._follow()
        try:
            kernels = self._plan(desired(config), {}).lines
        except PlanError as error:
            raise _refusal(str(error)) from error
        return setting_lines(self._effects.in_force(self.config), config) + kernels

    def note_saved(self, text: str) -> None:
        """Take note that control's own file has a new text, which says what is in force already."""
        self._keep(self.record.model_copy(update={"file": text}))

    # --- Changing -----------------------------------------------------------------------------------------------------

    def _change(
        self,
        version: Version,
        config: Config,
        history: tuple[Version, ...],
        *,
        unconfirmed: Unconfirmed | None = None,
        displaced: dict[RouteKey, RouteSpec] | None = None,
    ) -> None:
        before = self.record
        former = self.config
        wanted = desired(config)
        self._follow()
        try:
            first = self._plan(wanted, displaced or {})
        except PlanError as error:
            raise _refusal(f"{error}; nothing was changed") from error
        self._keep(before.model_copy(update={"applying": True, "owned": before.owned.united(first.owned)}))
        self.record = before
        application = KernelApplication(self._rib, self._mirror, self._changes)
        try:
            application.run(lambda: self._plan(wanted, displaced or {}))
            self._effects.listen(config.rpc)
            if unconfirmed is not None and self.record.unconfirmed is None:
                unconfirmed = unconfirmed.model_copy(update={"displaced": _displaced(first)})
            self._write(
                before.model_copy(
                    update={
                        "current": version,
                        "history": history,
                        "owned": first.owned,
                        "unconfirmed": unconfirmed,
                        "applying": False,
                    }
                )
            )
        except (RpcRefusedError, HopwireError) as error:
            message = error.error.message if isinstance(error, RpcRefusedError) else error.message
            if isinstance(error, HopwireError):
                message += application.take_back()
            self._restore(before, former)
            raise _refusal(message) from error
        self.config = config
        self._effects.adopt(config)

    def _restore(self, before: Record, config: Config) -> None:
        try:
            self._effects.listen(config.rpc)
            self._write(before)
        except HopwireError as error:
            self._problem = error.message

    def _plan(self, wanted: Desired, displaced: dict[RouteKey, RouteSpec]) -> Plan:
        present = running(self._rib, [route.dst for route in wanted.routes])
        return plan(present, wanted, self.record.owned, displaced)

    def _follow(self) -> None:
        if not self._mirror.follow():
            raise RpcRefusedError(RpcError(code="unavailable", message="the kernel gives no whole dump; try again"))

    def _go_back(self) -> None:
        unconfirmed = self.record.unconfirmed
        version, *rest = self.record.history
        displaced = unconfirmed.displaced_by_key if unconfirmed is not None else {}
        self._change(version, self._checked(version), tuple(rest), displaced=displaced)

    def _go_back_by_itself(self, now: float) -> None:
        source = self.record.current.source
        try:
            self._go_back()
        except RpcRefusedError as refused:
            self._problem = (
                f"the configuration {source} was not confirmed and could not go back, which is tried again: "
            )
            self._problem += refused.error.message
            self.record = self.record.model_copy(update={"unconfirmed": self._unconfirmed(RETRY_S, now)})
            return
        self._problem = ""
        self.log.warning("not confirmed: it went back", configuration=source, now=self.record.current.source)

    def _unconfirmed(self, seconds: float, now: float) -> Unconfirmed:
        displaced = self.record.unconfirmed.displaced if self.record.unconfirmed is not None else ()
        return Unconfirmed(deadline=now + seconds, boot=boot_id(), until=time.time() + seconds, displaced=displaced)

    def _refuse_while_unconfirmed(self) -> None:
        if self.record.unconfirmed is not None:
            source = self.record.current.source
            raise _refused(errno.EBUSY, f"{source} is not confirmed; `config confirm` it, or `config rollback`")

    def _checked(self, version: Version) -> Config:
        try:
            return self.origin.config(version)
        except HopwireError as error:
            raise _refusal(error.message) from error

    def _keep(self, record: Record) -> None:
        try:
            self._write(record)
        except HopwireError as error:
            raise _refusal(error.message) from error

    def _write(self, record: Record) -> None:
        self._store.write(record)
        self.record = record


def _displaced(first: Plan) -> tuple[RouteSpec, ...]:
    """Return the routes of control-cli that give way to the configuration's."""
    changed = [step.before for step in first.steps if isinstance(step, RouteStep) and step.after is not None]
    return tuple(route for route in changed if route is not None and route.proto != RTPROT_CONFIGURATION)


def _refusal(message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code="refused", message=message))


def _refused(number: int, details: str) -> RpcRefusedError:
    return _refusal(f"{os.strerror(number)}: {details}")
