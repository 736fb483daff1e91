"""The benchmark's routing table."""

import gzip
from collections import Counter
from ipaddress import IPv4Network
from pathlib import Path

import numpy as np
import pytest

from services.common.errors import HopwireError
from services.launcher.bench.internet_table import Table, destinations, generated, read


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


def test_destinations_lie_all_over_the_table() -> None:
    table = generated(0.01)
    chosen = destinations(table, 2000, [IPv4Network("192.168.0.0/24")])
    matches = [table.matched(address) for address in chosen.tolist()]
    assert len(chosen) == 2000
    assert None not in matches
    assert len(set(matches)) > 1500
    assert (destinations(table, 2000, [IPv4Network("192.168.0.0/24")]) == chosen).all()


def test_no_destination_is_where_no_datagram_may_go() -> None:
    prefixes = [0x08000000, 0x09000000, 0x7F000000, 0xE0000000, 0xC0A80000, 0x00000000]
    table = Table(np.array(prefixes, np.uint32), np.array([8, 8, 8, 4, 24, 8], np.uint32))
    assert set((destinations(table, 100, [IPv4Network("192.168.0.0/24")]) >> 24).tolist()) == {8, 9}
    with pytest.raises(HopwireError, match="are for no unicast, or the benchmark's own"):
        destinations(table, 100, [IPv4Network("192.168.0.0/24"), IPv4Network("8.0.0.0/7")])


def test_a_destination_may_be_any_address_of_its_prefix() -> None:
    chosen = destinations(Table(np.array([0x08080800], np.uint32), np.array([24], np.uint32)), 5000, [])
    assert set(chosen.tolist()) == set(range(0x08080800, 0x08080900))
