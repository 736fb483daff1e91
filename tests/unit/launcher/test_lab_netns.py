"""Naming network namespaces: what exists, and the errors for what does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.common import netns
from services.common.errors import HopwireError


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in place of /run/netns, next to one that does not exist."""
    folder = tmp_path / "netns"
    folder.mkdir()
    monkeypatch.setattr(netns, "DIRECTORIES", (tmp_path / "missing", folder))
    return folder


def test_names_are_sorted_and_found(directory: Path) -> None:
    for name in ("red", "blue"):
        (directory / name).touch()
    assert netns.names() == ["blue", "red"]
    assert netns.path("red") == directory / "red"


def test_unknown_name_tells_what_exists(directory: Path) -> None:
    (directory / "blue").touch()
    with pytest.raises(HopwireError, match=r"'green' does not exist \(there are: blue\); make it with: ip netns add"):
        netns.enter("green")


def test_unknown_name_where_none_exists(directory: Path) -> None:
    assert netns.names() == []
    with pytest.raises(HopwireError, match="there are: none"):
        netns.enter("green")


@pytest.mark.parametrize("name", ["", ".", "..", "../netns", "/proc/self/ns/net"])
def test_path_is_no_name(directory: Path, name: str) -> None:
    (directory / "blue").touch()
    with pytest.raises(HopwireError, match="does not exist"):
        netns.path(name)


def test_plain_file_is_no_namespace(directory: Path) -> None:
    (directory / "stale").touch()
    with pytest.raises(HopwireError, match=f"'stale' failed: .* remove it with: rm {directory}/stale"):
        netns.enter("stale")


def test_failed_entry_leaves_no_descriptor_open(directory: Path) -> None:
    (directory / "stale").touch()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(HopwireError), netns.inside("stale"):
        pytest.fail("nothing to be inside of")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_imports_only_the_standard_library_and_errors() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "import services.common.netns\n"
        "print(*(m for m in set(sys.modules) - before if m.split('.')[0] not in sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {
        *("services", "services.common", "services.common.errors", "services.common.netns")
    }
