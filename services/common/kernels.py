"""Compiled code: how a kernel is declared, and where its machine code is kept.

A kernel is a function over flat arrays that Numba compiles for the signature it declares, when its module is
imported for the first time; afterwards it is loaded from the cache in milliseconds. `python -m
services.common.kernels` compiles all of them ahead, as an installation or an image build does.
"""

import hashlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import numba
from numba import extending
from numba.core import sigutils
from numba.core.caching import UserProvidedCacheLocator

_SERVICES: Final = Path(__file__).resolve().parents[1]
_FOLDERS: Final = ("common", "ingress", "forwarder", "forwarder/nat", "control")
_OPTIONS: Final = {"nogil": True, "error_model": "numpy", "_nrt": False}
"""Without Numba's runtime a kernel cannot allocate, and counts no references to the arrays it is given."""
_FINGERPRINT_DIGITS: Final = 16
_MARK: Final = "services.common.kernels import"

Function = TypeVar("Function", bound=Callable[..., Any])


def _sources() -> list[Path]:
    """Return the files that hold kernels: those that import this module."""
    files = (path for folder in _FOLDERS for path in sorted((_SERVICES / folder).glob("*.py")))
    return [path for path in files if _MARK in path.read_text() and path != Path(__file__).resolve()]


def _constants() -> list[Path]:
    """Return the files whose constants and intrinsics become part of the machine code, though they hold no kernel."""
    files = (
        "common/coalesce.py",
        "common/counters.py",
        "common/messages.py",
        "common/nat_rules.py",
        "common/netlink.py",
        "control/kernel_types.py",
        "control/netlink_messages.py",
        "common/packet_filter.py",
        "common/recording.py",
        "common/tap.py",
        "common/meters.py",
        "forwarder/neighbours.py",
        "forwarder/verdicts.py",
        "forwarder/paths.py",
        "forwarder/groups.py",
        "forwarder/routes.py",
    )
    return [*(_SERVICES / file for file in files), *sorted((_SERVICES / "common" / "wire").glob("*.py"))]


def _fingerprint() -> str:
    """Return a digest of all that the machine code depends on.

    Numba's own cache looks only at the file of the outermost function; a kernel that calls one of another file
    would go on running that one's old code, and with the old values of its constants: counters' columns, offsets.
    """
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for path in [Path(__file__), *_constants(), *_sources()]:
        if path.exists():  # the image of one service has no files of others
            digest.update(path.read_bytes())
    return digest.hexdigest()[:_FINGERPRINT_DIGITS]


_ROOT: Final = Path(os.environ.get("HOPWIRE_KERNEL_CACHE") or _SERVICES.parent / ".kernels")
CACHE: Final = _ROOT / _fingerprint()
numba.config.CACHE_DIR = str(CACHE)
numba.config.CACHE_LOCATOR_CLASSES = "services.common.kernels.KernelCache"


class KernelCache(UserProvidedCacheLocator):  # type: ignore[misc] # Numba has no types
    """Numba's cache in a folder of our own, also where it is read-only, as in a container's image.

    Numba itself looks only into folders that it may write to (numba/core/caching.py).
    """

    def ensure_cache_path(self) -> None:
        """Make the folder, if that is allowed."""
        with suppress(OSError):
            super().ensure_cache_path()


def record(fields: type[NamedTuple], *types: str) -> Any:
    """Return the Numba type of a named tuple, whose fields have the given types (Numba's notation)."""
    return numba.types.BaseTuple.from_types([_type(name) for name in types], fields)


def _type(name: Any) -> Any:
    return sigutils.normalize_signature(f"void({name})")[0][0] if isinstance(name, str) else name


def kernel(returns: Any, *arguments: Any) -> Callable[[Function], Function]:
    """Compile a function at import, without the GIL, cached on disk.

    :param returns: the result's type, in Numba's notation, as each of `arguments`; or what `record` returned.
    """
    signature = _type(returns)(*[_type(argument) for argument in arguments])

    def compiled(function: Function) -> Function:
        try:
            cached: Function = numba.njit(signature, cache=True, **_OPTIONS)(function)
        except OSError:  # compiled for another processor, and nobody may write here: it takes its time at each start
            cached = numba.njit(signature, **_OPTIONS)(function)
        return cached

    return compiled


def intrinsic(typed: Callable[..., Any]) -> Callable[..., Any]:
    """Make a kernel's own instruction of a function that returns its signature and what writes its LLVM code."""
    declared: Callable[..., Any] = extending.intrinsic(typed)
    return declared


def inlined(function: Function) -> Function:
    """Compile a small function as part of the kernels that call it."""
    compiled: Function = numba.njit(forceinline=True, **_OPTIONS)(function)
    return compiled


def compile_all() -> float:
    """Import every module with kernels; return the seconds it took. Caches of older sources are removed."""
    started = time.monotonic()
    for path in _sources():
        importlib.import_module(".".join(path.relative_to(_SERVICES.parent).with_suffix("").parts))
    for old in _ROOT.glob("[0-9a-f]" * _FINGERPRINT_DIGITS):
        if old != CACHE:
            shutil.rmtree(old, ignore_errors=True)
    return time.monotonic() - started


if __name__ == "__main__":
    seconds = importlib.import_module("services.common.kernels").compile_all()
    print(f"kernels ready in {seconds:.1f} s")  # noqa: T201 - the product of this command
