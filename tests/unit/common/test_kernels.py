"""The cache of machine code: when it is void, and what is removed from it."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.common import kernels

SERVICES = Path(kernels.__file__).parents[1]


def test_all_that_kernels_take_constants_from_is_part_of_the_fingerprint() -> None:
    """Numba keeps the values of global names in the machine code, and does not look whether they have changed."""
    hashed = {*kernels._constants(), *kernels._sources()}
    for path in kernels._sources():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("services."):
                continue
            folder_or_file = SERVICES.parent.joinpath(*str(node.module).split("."))
            for alias in node.names:
                if folder_or_file.is_dir():
                    assert folder_or_file / f"{alias.name}.py" in hashed, f"{path} imports {alias.name}"
                elif alias.name.isupper() or alias.name == "Counter":
                    assert folder_or_file.with_suffix(".py") in hashed, f"{path} imports {alias.name}"


def test_the_fingerprint_changes_with_a_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = tmp_path / "counters.py"
    constants.write_text("COLUMNS = 60\n")
    monkeypatch.setattr(kernels, "_constants", lambda: [constants])
    before = kernels._fingerprint()
    assert kernels._fingerprint() == before
    constants.write_text("COLUMNS = 61\n")
    assert kernels._fingerprint() != before


def test_old_caches_are_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current, old = tmp_path / "0123456789abcdef", tmp_path / "fedcba9876543210"
    others = [tmp_path / "photos", tmp_path / "deadbeef", tmp_path / "0123456789abcdef0"]
    for folder in (current, old, *others):
        folder.mkdir()
        (folder / "file").write_text("")
    monkeypatch.setattr(kernels, "_ROOT", tmp_path)
    monkeypatch.setattr(kernels, "CACHE", current)
    monkeypatch.setattr(kernels, "_sources", list)
    kernels.compile_all()
    assert sorted(tmp_path.iterdir()) == sorted([current, *others])


@kernels.kernel("int64", "int64[::1]", "int64")
def element(values: np.ndarray[tuple[int], np.dtype[np.int64]], index: int) -> int:
    """Return values[index]."""
    return int(values[index])


def test_a_kernel_is_compiled_when_it_is_declared() -> None:
    assert len(element.signatures) == 1  # type: ignore[attr-defined]
    assert element(np.array([1, 2, 3]), 2) == 3
    with pytest.raises(TypeError):
        element(np.array([1.5]), 0)


def test_the_compiler_still_works_after_its_memory_was_given_back() -> None:
    program = (
        "import numba, pathlib\n"
        "from services.common.compiler_memory import give_back_compiler\n"
        "def resident(): return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * 4096\n"
        "assert numba.njit(lambda x: x + 1)(1) == 2\n"
        "before = resident()\n"
        "give_back_compiler()\n"
        "assert resident() < before - 2**24, (before, resident())\n"
        "assert numba.njit(lambda x: x + 2)(1) == 3\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
