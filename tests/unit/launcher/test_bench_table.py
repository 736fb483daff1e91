"""The benchmark's routing table."""

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from services.common.errors import HopwireError
from services.launcher.bench.internet_table import Table, generated, read


def test_a_made_table_has_the_lengths_of_the_internets() -> None:
    table = generated(0.01)
    lengths = Counter(table.lengths.tolist())
    assert (lengths[24], lengths[16], lengths[8], lengths[32]) == (5377, 135, 1, 9)
    assert len(set(zip(table.prefixes.tolist(), table.lengths.tolist(), strict=True))) == len(table)
    hosts = np.uint64(0xFFFF_FFFF) >> table.lengths.astype(np.uint64)
    assert not (table.prefixes & hosts).any()
    assert not np.isin(table.prefixes >> 24, (0, 127, *range(224, 256))).any()
    assert (generated(0.01).prefixes == table.prefixes).all()


def test_the_longest_prefix_matches() -> None:
    table = Table(np.array([0x0A000000, 0x0A010000, 0x0A010200], np.uint32), np.array([8, 16, 24], np.uint32))
    assert table.matched(0x0A010203) == (0x0A010200, 24)
    assert table.matched(0x0A01FF00) == (0x0A010000, 16)
    assert table.matched(0x0AFF0000) == (0x0A000000, 8)
    assert table.matched(0x0B000000) is None


def test_a_file_of_prefixes(tmp_path: Path) -> None:
    plain, packed = tmp_path / "prefixes.txt", tmp_path / "prefixes.txt.gz"
    plain.write_text("10.0.0.0/8\n2001:db8::/32\n\n192.0.2.1/32\n")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        table = read(path)
        assert (table.prefixes.tolist(), table.lengths.tolist()) == ([0x0A000000, 0xC0000201], [8, 32])


@pytest.mark.parametrize("line", ["10.0.0.1/8", "10.0.0.0/33", "hello"])
def test_a_file_of_something_else(tmp_path: Path, line: str) -> None:
    path = tmp_path / "prefixes.txt"
    path.write_text(f"10.0.0.0/8\n{line}\n")
    with pytest.raises(HopwireError, match=f"prefixes.txt:2: '{line}' is no prefix"):
        read(path)
    with pytest.raises(HopwireError, match=r"nothing\.txt"):
        read(tmp_path / "nothing.txt")
