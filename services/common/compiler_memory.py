"""The memory that compiling takes, in a service that has all its kernels."""

import ctypes
from pathlib import Path
from typing import Final

_MADV_DONTNEED: Final = 4  # asm-generic/mman-common.h


def give_back_compiler() -> None:
    """Give back the memory of LLVM's machine code, which a service needs only until its kernels are loaded: 50 MiB.

    Nothing is unloaded. The pages are dropped, as the system itself does when memory is short (madvise(2), on
    unmodified pages of a file), and come back from the file if they are needed again.
    """
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        bounds, permissions, _, _, _, *name = line.split(maxsplit=5)
        if permissions == "r-xp" and name and Path(name[0]).name.startswith("libllvmlite"):
            first, end = (int(bound, 16) for bound in bounds.split("-"))
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_DONTNEED)
