"""When a container's service starts, ends and starts again, and what the health check says; on a virtual clock."""

import math

import pytest

from services.container.keeper import HUNG_S, LEFT_BEHIND, UNHEARD_S, Action, Keeper
from services.container.namespace import Sight


def keeper(*, has_holder: bool = True, refusal: str = "") -> Keeper:
    return Keeper("arp", "/run/hopwire", has_holder=has_holder, now=0.0, refusal=refusal)


def running(now: float = 0.0) -> Keeper:
    """Return the keeper of a service that runs and is ready."""
    one = keeper()
    one.set_sight(Sight.SAME)
    assert one.actions(now) == [Action.START]
    one.on_sign_of_life(ready=True, status="")
    return one


def test_without_a_holder_the_service_starts_at_once() -> None:
    assert keeper(has_holder=False).actions(0.0) == [Action.START]


@pytest.mark.parametrize(
    ("sight", "word"), [(Sight.UNSEEN, "mount the same volume"), (Sight.AWAY, "does not run; waiting for it")]
)
def test_nothing_starts_before_the_holder_is_seen_in_the_same_namespace(sight: Sight, word: str) -> None:
    one = keeper()
    one.set_sight(sight)
    assert one.actions(0.0) == []
    assert one.deadline() == math.inf
    assert not one.verdict().healthy
    assert word in one.verdict().text
    one.set_sight(Sight.SAME)
    assert one.actions(1.0) == [Action.START]


def test_a_service_whose_holder_went_away_goes_on_and_is_not_well() -> None:
    one = running()
    one.set_sight(Sight.AWAY)
    assert one.actions(1.0) == []
    assert not one.verdict().healthy


def test_a_service_that_ends_while_the_holder_is_away_keeps_its_container() -> None:
    one = running()
    one.set_sight(Sight.AWAY)
    one.on_exit(1, "hopwire arp: interface eth0 vanished", 1.0)
    assert one.actions(60.0) == []
    assert one.exit_status is None


def test_a_holder_in_a_new_namespace_ends_the_service_and_then_the_container() -> None:
    one = running()
    one.set_sight(Sight.MOVED)
    assert one.actions(1.0) == [Action.TERMINATE]
    assert "starts again there" in one.verdict().text
    assert one.actions(1.1) == []
    one.on_exit(0, "", 1.2)
    assert one.actions(1.2) == [Action.LEAVE]
    assert one.exit_status == LEFT_BEHIND


def test_a_service_that_does_not_heed_the_signal_is_killed_after_five_seconds() -> None:
    one = running()
    one.stop()
    assert one.actions(1.0) == [Action.TERMINATE]
    assert one.deadline() == 6.0
    assert one.actions(5.9) == []
    assert one.actions(6.0) == [Action.KILL]
    assert one.actions(7.0) == []
    one.on_exit(-9, "", 7.0)
    assert one.actions(7.0) == [Action.LEAVE]
    assert one.exit_status == 0


def test_the_first_restart_is_at_once_and_pauses_double_up_to_five_seconds() -> None:
    one = running()
    now, pauses = 20.0, []
    for _ in range(9):
        one.on_exit(-9, "", now)
        pauses.append(one.deadline() - now)
        now = one.deadline()
        assert one.actions(now) == [Action.START]
    assert pauses == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_a_good_life_forgives_the_deaths_before_it() -> None:
    one = running()
    for now in (1.0, 2.0, 3.0):
        one.on_exit(-9, "", now)
        assert one.actions(now + 0.5) == [Action.START]
    one.on_exit(-9, "", 14.0)
    assert one.deadline() == 14.0


def test_why_a_service_cannot_start_is_what_the_health_check_says_until_it_lives() -> None:
    one = running()
    one.on_exit(1, "hopwire arp: arp already runs on /run/hopwire", 1.0)
    assert one.verdict() == (False, "hopwire arp: arp already runs on /run/hopwire")
    assert one.actions(1.0) == [Action.START]
    assert one.verdict() == (False, "hopwire arp: arp already runs on /run/hopwire")
    one.on_sign_of_life(ready=True, status="")
    assert one.verdict() == (True, "ready")


def test_a_killed_service_is_said_to_be_so() -> None:
    one = running()
    one.on_exit(-9, "hopwire arp: an older complaint", 1.0)
    assert one.verdict() == (False, "hopwire arp: ended with status -9")


def test_what_the_service_says_of_itself_is_passed_on() -> None:
    one = running()
    one.on_sign_of_life(ready=True, status="no nftables guard")
    assert one.verdict() == (True, "ready; no nftables guard")
    one.on_sign_of_life(ready=False, status="")
    assert one.verdict() == (False, "hopwire arp: not ready: it hears nothing of control in /run/hopwire")


def test_a_service_that_was_not_heard_of_yet_is_not_well() -> None:
    one = keeper(has_holder=False)
    assert one.verdict() == (False, "hopwire arp: not started yet")
    one.actions(0.0)
    assert one.verdict() == (False, "hopwire arp: started, and not heard of yet")


def test_silence_makes_unwell_and_in_the_end_is_killed() -> None:
    one = running()
    step, now = 0.25, 0.0
    while now < UNHEARD_S - step:
        now += step
        assert one.actions(now) == []
    assert one.verdict().healthy
    now += step
    one.actions(now)
    assert one.verdict() == (False, "hopwire arp: silent for 3 s")
    while now < HUNG_S - step:
        now += step
        assert one.actions(now) == []
    assert one.actions(HUNG_S) == [Action.KILL]
    assert one.actions(HUNG_S + step) == []


def test_time_in_which_the_container_was_frozen_is_not_silence() -> None:
    one = running()
    assert one.actions(1000.0) == []
    assert one.verdict().healthy


def test_before_its_first_word_a_service_may_take_any_time() -> None:
    one = keeper(has_holder=False)
    one.actions(0.0)
    assert all(one.actions(second) == [] for second in range(1, 1000))


def test_a_container_that_lacks_what_the_service_needs_starts_nothing_and_says_so() -> None:
    one = keeper(has_holder=False, refusal="CAP_NET_RAW missing")
    assert one.actions(0.0) == []
    assert one.hindrance() == "hopwire arp: CAP_NET_RAW missing"
    assert one.verdict() == (False, "hopwire arp: CAP_NET_RAW missing")
    one.stop()
    assert one.actions(1.0) == [Action.LEAVE]
