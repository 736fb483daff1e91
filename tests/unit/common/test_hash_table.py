"""The hash table against a dict, above all where probe sequences run into each other and round the end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.hash_table import ABSENT, HashTable

CAPACITY = 64
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio


def home(key: int, capacity: int) -> int:
    """Fibonacci hashing: where a key stands if its place is free."""
    return (key * GOLDEN % 2**64 >> 32) % capacity


def keys_at(places: range, count: int, capacity: int = CAPACITY) -> list[int]:
    """Keys that all want to stand in the same few places."""
    found: list[int] = []
    key = 1
    while len(found) < count:
        if home(key, capacity) in places:
            found.append(key)
        key += 1
    return found


CROWDED = keys_at(range(58, 64), 26) + keys_at(range(3), 10)
operations = st.lists(
    st.tuples(st.sampled_from(("put", "put", "remove")), st.sampled_from(CROWDED), st.integers(0, 2**31 - 1)),
    max_size=120,
)


def check(table: HashTable, model: dict[int, int], keys: list[int]) -> None:
    assert table.used == len(model)
    assert {key: table.get(key) for key in keys} == {key: model.get(key, ABSENT) for key in keys}
    assert sorted(table.keys[table.keys != 0].tolist()) == sorted(model)
    assert table.used * 2 <= len(table.keys)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(operations)
def test_it_holds_what_a_dict_holds(steps: list[tuple[str, int, int]]) -> None:
    table, model = HashTable(2 * CAPACITY), dict[int, int]()
    for operation, key, value in steps:
        if operation == "put":
            table.put(key, value)
            model[key] = value
        else:
            table.remove(key)
            model.pop(key, None)
    check(table, model, CROWDED)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.permutations(CROWDED[:32]), st.permutations(CROWDED[:32]))
def test_a_cluster_round_the_end_survives_removals_in_any_order(came: list[int], went: list[int]) -> None:
    table, model = HashTable(CAPACITY), dict[int, int]()
    for key in came:
        table.put(key, key % 1000)
        model[key] = key % 1000
    assert len(table.keys) == CAPACITY
    assert table.keys[0] != 0, "the cluster must reach round the end, else this test shows nothing"
    assert table.keys[-1] != 0
    for key in went:
        table.remove(key)
        del model[key]
        check(table, model, CROWDED[:32])


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.dictionaries(st.integers(1, 2**62), st.integers(0, 2**31 - 1), max_size=400))
def test_it_grows_without_losing_anything(model: dict[int, int]) -> None:
    table = HashTable(2)
    for key, value in model.items():
        table.put(key, value)
    check(table, model, list(model))


def test_room_made_in_advance_is_enough_for_kernels_that_put_themselves() -> None:
    table = HashTable(4)
    table.make_room(1000)
    assert len(table.keys) >= 2000
    assert len(table.keys) & (len(table.keys) - 1) == 0
    assert not np.any(table.keys)


@pytest.mark.parametrize("key", [1, 1 << 32 | 0xFFFFFFFF, 255 << 32, 1 << 40 | 32])
def test_a_key_that_is_not_there_is_absent_and_may_be_removed(key: int) -> None:
    table = HashTable()
    assert table.get(key) == ABSENT
    table.remove(key)
    assert table.used == 0
    table.put(key, 0)
    assert table.get(key) == 0
