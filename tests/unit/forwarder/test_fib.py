"""Longest prefix match against the plain definition: of the prefixes that hold an address, the longest."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.forwarder.fib import Fib

WITHDRAWN = 0
BASES = [int(IPv4Address(text)) for text in ("10.11.12.0", "10.11.13.128", "10.200.0.0", "0.0.0.0", "255.255.255.255")]


def apply(fib: Fib, *changes: tuple[str, int]) -> None:
    """Apply changes, a prefix and a path each."""
    apply_networks(fib, [(IPv4Network(text), path) for text, path in changes])


def apply_networks(fib: Fib, changes: Iterable[tuple[IPv4Network, int]]) -> None:
    rows = [(int(network.network_address), network.prefixlen, path) for network, path in changes]
    columns = np.array(rows, np.int64).reshape(len(rows), 3).T
    fib.apply(*(np.ascontiguousarray(column) for column in columns))


def lookup(fib: Fib, address: str) -> int:
    return fib.lookup(int(IPv4Address(address)))


def longest(routes: dict[IPv4Network, int], address: int) -> tuple[IPv4Network, int] | None:
    """The definition, in a sentence."""
    matching = [network for network in routes if IPv4Address(address) in network]
    best = max(matching, key=lambda network: network.prefixlen, default=None)
    return None if best is None else (best, routes[best])


def check(fib: Fib, routes: dict[IPv4Network, int], addresses: Iterable[int]) -> None:
    assert len(fib) == len(routes)
    for address in addresses:
        expected = longest(routes, address)
        assert fib.lookup(address) == (expected[1] if expected else WITHDRAWN), IPv4Address(address)
        matched = fib.matched_prefix(address)
        assert matched == ((int(expected[0].network_address), expected[0].prefixlen) if expected else None)


def edges(networks: Iterable[IPv4Network]) -> list[int]:
    """The first and last address of each network, and those beside them."""
    ends = [int(end) for network in networks for end in (network.network_address, network.broadcast_address)]
    return sorted({(end + step) % 2**32 for end in ends for step in (-1, 0, 1)})


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network:
    """Prefixes of all lengths that nest around a few addresses."""
    length = draw(st.one_of(st.integers(0, 32), st.integers(22, 32)))
    address = draw(st.sampled_from(BASES)) ^ draw(st.integers(0, 2047))
    return IPv4Network((address >> (32 - length) << (32 - length), length))


changes = st.tuples(networks(), st.one_of(st.just(WITHDRAWN), st.integers(1, 2**24 - 1)))


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.lists(changes, max_size=25), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_it_agrees_with_the_definition_under_inserts_replacements_and_withdrawals(
    batches: list[list[tuple[IPv4Network, int]]], random: Random
) -> None:
    fib, routes = Fib(), dict[IPv4Network, int]()
    for batch in batches:
        # Withdraw some that are there, too: a random prefix hardly ever is.
        gone = random.sample(sorted(routes), min(len(routes), random.randrange(12)))
        mixed = [*batch, *((network, WITHDRAWN) for network in gone)]
        random.shuffle(mixed)
        apply_networks(fib, mixed)
        for network, path in mixed:
            routes.pop(network, None)
            if path != WITHDRAWN:
                routes[network] = path
        touched = {network for network, _ in mixed}
        probes = edges(routes | dict.fromkeys(touched)) + [random.getrandbits(32) for _ in range(10)]
        check(fib, routes, random.sample(probes, min(len(probes), 150)))
    apply_networks(fib, [(network, WITHDRAWN) for network in routes])
    check(fib, {}, edges(routes))


def test_nothing_is_found_in_an_empty_table() -> None:
    fib = Fib()
    assert fib.lookup(0) == fib.lookup(0xFFFFFFFF) == WITHDRAWN
    assert fib.matched_prefix(0x0A000001) is None
    apply(fib, ("10.0.0.0/8", WITHDRAWN))
    assert len(fib) == 0


def test_one_prefix_of_each_length_around_an_address() -> None:
    """/0 to /32 nested: each length decides just about what no longer one holds."""
    address = int(IPv4Address("172.21.173.90"))
    nested = {IPv4Network((address >> (32 - length) << (32 - length), length)): length + 1 for length in range(33)}
    fib = Fib()
    apply_networks(fib, nested.items())
    for length in range(32):
        outside = address ^ (1 << (31 - length))  # its first `length` bits agree, the next one does not
        assert fib.lookup(outside) == length + 1
        assert fib.matched_prefix(outside) == (outside >> (32 - length) << (32 - length), length)
    assert fib.lookup(address) == 33
    for length in range(32, -1, -1):
        network = IPv4Network((address >> (32 - length) << (32 - length), length))
        apply_networks(fib, [(network, WITHDRAWN)])
        assert fib.lookup(address) == length  # the path of the next shorter one, 0 behind the last


def test_a_replaced_prefix_keeps_its_longer_and_shorter_ones() -> None:
    fib = Fib()
    apply(fib, ("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.1.1.0/24", 3), ("10.1.1.128/25", 4))
    apply(fib, ("10.1.0.0/16", 5))
    found = [lookup(fib, text) for text in ("10.2.0.0", "10.1.0.1", "10.1.1.1", "10.1.1.129")]
    assert found == [1, 5, 3, 4]
    assert len(fib) == 4


def test_changes_of_one_batch_count_in_their_order() -> None:
    fib = Fib()
    apply(fib, ("10.0.0.0/26", 1), ("10.0.0.0/26", WITHDRAWN), ("10.0.0.0/26", 2), ("10.0.0.0/26", 3))
    assert (len(fib), lookup(fib, "10.0.0.63"), lookup(fib, "10.0.0.64")) == (1, 3, 0)
    apply(fib, ("0.0.0.0/0", 7), ("0.0.0.0/0", WITHDRAWN), ("10.0.0.0/26", WITHDRAWN), ("10.0.0.0/26", WITHDRAWN))
    assert (len(fib), lookup(fib, "10.0.0.1")) == (0, 0)


def test_all_prefixes_longer_than_24_bits_in_one_network() -> None:
    network = IPv4Network("203.0.113.0/24")
    inside = [part for length in range(25, 33) for part in network.subnets(new_prefix=length)]
    routes = {part: number for number, part in enumerate(inside, 1)}
    fib = Fib()
    apply_networks(fib, routes.items())
    check(fib, routes, range(int(network[0]) - 1, int(network[-1]) + 2))
    for kept in (32, 31, 30, 28, 25):
        apply_networks(fib, [(part, WITHDRAWN) for part in routes if part.prefixlen > kept])
        routes = {part: path for part, path in routes.items() if part.prefixlen <= kept}
        check(fib, routes, range(int(network[0]) - 1, int(network[-1]) + 2))


def test_a_shorter_prefix_reaches_into_blocks_of_longer_ones_and_back_out() -> None:
    fib = Fib()
    apply(fib, ("10.0.5.64/26", 1))
    apply(fib, ("10.0.0.0/16", 2))
    assert [lookup(fib, text) for text in ("10.0.5.63", "10.0.5.64", "10.0.4.0")] == [2, 1, 2]
    apply(fib, ("10.0.4.0/23", 3), ("10.0.0.0/16", WITHDRAWN))
    assert [lookup(fib, text) for text in ("10.0.5.63", "10.0.5.64", "10.0.6.0")] == [3, 1, 0]
    apply(fib, ("10.0.5.64/26", WITHDRAWN))
    assert lookup(fib, "10.0.5.64") == 3


def test_blocks_are_given_back_and_used_again() -> None:
    fib = Fib()
    apply(fib, ("192.0.2.0/30", 1), ("10.0.0.0/8", 2))
    size = fib.arrays.blocks.size
    for number in range(1000):
        network, longer = f"10.{number // 250}.{number % 250}", number + 3
        apply(fib, (f"{network}.128/25", longer))
        assert [lookup(fib, f"{network}.{last}") for last in (127, 128, 255)] == [2, longer, longer]
        apply(fib, (f"{network}.128/25", WITHDRAWN))
        assert lookup(fib, f"{network}.128") == 2
    assert fib.arrays.blocks.size == size
    assert [lookup(fib, f"192.0.2.{last}") for last in (3, 4)] == [1, 0]


@pytest.mark.parametrize("batches", [1, 40])
def test_memory_follows_the_networks_and_not_the_host_routes(batches: int) -> None:
    """4,000 host routes in 20 networks are 20 blocks of 256 entries, and no more than twice as many are made."""
    hosts = [(IPv4Network((0x0A000000 + number, 32)), number + 1) for number in range(20 * 200)]
    fib = Fib()
    for batch in range(batches):
        apply_networks(fib, hosts[batch::batches])
    assert fib.arrays.blocks.size <= 2 * 20 * 256
    assert fib.lookup(0x0A000000 + 3999) == 4000
    apply_networks(fib, [(network, WITHDRAWN) for network, _ in hosts])
    apply_networks(fib, hosts)
    assert fib.arrays.blocks.size <= 2 * 20 * 256
    assert fib.lookup(0x0A000000) == 1
