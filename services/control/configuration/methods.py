"""The methods `config.*` of control's RPC."""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.control.configuration.manager import Configuration, Effects
from services.control.configuration.record import MAX_HISTORY, Version
from services.control.configuration.saved import saved_text
from services.control.live_parameters import LiveParameters, names
from services.control.nat_store import NatStore
from services.control.permanent import PermanentNeighbours
from services.control.rib import Rib
from services.control.rpc_params import NoParams, Params, checked

_MAX_TEXT: Final = 2**20
"""Characters of a configuration; `services.control.config` reads no larger file either."""
_MAX_CONFIRM_S: Final = 86_400.0


class _File(Params):
    text: Annotated[str, Field(max_length=_MAX_TEXT)]
    source: Annotated[str, Field(max_length=4096)] = "FILE"


class _Applied(_File):
    confirm_s: Annotated[float, Field(gt=0, le=_MAX_CONFIRM_S, strict=False)] | None = None


class _Back(Params):
    steps: Annotated[int, Field(ge=1, le=MAX_HISTORY)] = 1
    confirm_s: Annotated[float, Field(gt=0, le=_MAX_CONFIRM_S, strict=False)] | None = None


class _Saved(Params):
    write: bool = False


class ConfigMethods:
    """Answers `config.*`.

    :ivar methods: by name.
    """

    def __init__(
        self,
        configuration: Configuration,
        effects: Effects,
        parameters: LiveParameters,
        permanent: PermanentNeighbours,
        nat: NatStore,
        rib: Rib,
        clock: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._effects = effects
        self._parameters = parameters
        self._permanent = permanent
        self._nat = nat
        self._rib = rib
        self._clock = clock
        self.methods: Mapping[str, Callable[[dict[str, Any]], Any]] = {
            "config.show": self.show,
            "config.set": self.set,
            "config.diff": self.diff,
            "config.apply": self.apply,
            "config.confirm": self.confirm,
            "config.rollback": self.rollback,
            "config.history": self.history,
            "config.save": self.save,
        }

    def show(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration in force."""
        checked(NoParams, params)
        return self._effects.in_force(self._configuration.config).model_dump(mode="json")

    def set(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change numbers, until another configuration is applied or control ends."""
        if not params:
            raise _error("usage", f"name at least one parameter: {', '.join(names())}")
        try:
            self._parameters.set(params)
        except ValueError as error:
            raise _error("usage", str(error)) from error
        return {}

    def diff(self, params: dict[str, Any]) -> list[str]:
        """Return what applying a configuration would change, a line each."""
        return self._configuration.difference(_version(checked(_File, params)))

    def apply(self, params: dict[str, Any]) -> dict[str, Any]:
        """Apply a configuration, as a whole or not at all."""
        wanted = checked(_Applied, params)
        lines = self._configuration.apply(_version(wanted), wanted.confirm_s, self._clock())
        return {"changes": len(lines)}

    def confirm(self, params: dict[str, Any]) -> dict[str, Any]:
        """Keep the configuration that would go back by itself."""
        checked(NoParams, params)
        self._configuration.confirm()
        return {}

    def rollback(self, params: dict[str, Any]) -> dict[str, Any]:
        """Go back to an earlier configuration."""
        wanted = checked(_Back, params)
        version = self._configuration.rollback(wanted.steps, self._clock(), wanted.confirm_s)
        return {"source": version.source}

    def history(self, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the configuration in force and those before it."""
        checked(NoParams, params)
        record = self._configuration.record
        return [
            {"steps": steps, "source": version.source, "at": version.at, "bytes": len(version.text.encode())}
            for steps, version in enumerate((record.current, *record.history))
        ]

    def save(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return what is in force as a file's text, or write it to control's own file."""
        wanted = checked(_Saved, params)
        present = self._effects.in_force(self._configuration.config)
        parameters = self._permanent.within(present.parameters)
        whole = present.model_copy(update={"parameters": parameters, "nat": self._nat.current})
        text = saved_text(whole, self._rib)
        if not wanted.write:
            return {"text": text}
        path = self._configuration.origin.path
        if path is None:
            raise _error("refused", "control has no file of its own: start it with --config, or name one to save to")
        _write(path, text)
        self._configuration.note_saved(text)
        return {"file": str(path)}


def _version(file: _File) -> Version:
    return Version(text=file.text, source=file.source, at=time.time())


def _write(path: Path, text: str) -> None:
    """Write a file as a whole, with the mode that it had; what it was before goes to the same name and `.before`."""
    new, former = path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.before")
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o640
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:  # noqa: PTH123
            file.write(text.encode())
        if path.exists():
            former.unlink(missing_ok=True)
            former.hardlink_to(path)
        new.replace(path)
    except OSError as error:
        raise _error("refused", f"cannot write {path}: {error.strerror}; name another file to save to") from error


def _error(code: Any, message: str) -> RpcRefusedError:
    return RpcRefusedError(RpcError(code=code, message=message))
