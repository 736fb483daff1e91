"""Deadlines against a plain dictionary."""

import math

from hypothesis import given
from hypothesis import strategies as st

from services.arp.deadlines import Deadlines

keys = st.tuples(st.integers(0, 3), st.integers(0, 3))
times = st.integers(0, 50).map(float)
steps = st.one_of(
    st.tuples(st.just("set"), keys, times),
    st.tuples(st.just("cancel"), keys, times),
    st.tuples(st.just("take"), keys, times),
)


@given(st.lists(steps, max_size=200))
def test_it_agrees_with_a_dictionary(happenings: list[tuple[str, tuple[int, int], float]]) -> None:
    deadlines = Deadlines()
    model: dict[tuple[int, int], float] = {}
    for kind, key, when in happenings:
        if kind == "set":
            deadlines.set(key, when)
            model[key] = when
        elif kind == "cancel":
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            due = deadlines.take_due(when)
            assert [model[each] for each in due] == sorted(model[each] for each in due)
            assert set(due) == {each for each, deadline in model.items() if deadline <= when}
            assert len(due) == len(set(due))
            model = {each: deadline for each, deadline in model.items() if deadline > when}
        assert deadlines.earliest() == min(model.values(), default=math.inf)


def test_a_deadline_set_twice_to_the_same_time_is_due_once() -> None:
    deadlines = Deadlines()
    deadlines.set((1, 1), 5.0)
    deadlines.set((1, 1), 5.0)
    assert deadlines.take_due(5.0) == [(1, 1)]
    assert deadlines.take_due(5.0) == []
    deadlines.set((1, 1), 7.0)
    assert deadlines.earliest() == 7.0
