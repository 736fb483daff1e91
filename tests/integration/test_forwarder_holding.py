"""Frames to a neighbour that was just resolved do not overtake those that are still under way to arp."""

import os
import signal

import pytest
from forwarder_links import SILENT, datagram, numbers
from forwarder_process import Ring, Router

from services.common.counters import Counter

pytest_plugins = ["forwarder_fixtures"]
pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]


def put(router: Router, ring: Ring, *labels: int) -> None:
    """Let frames come in one after the other, each in a batch of its own."""
    for label in labels:
        ring.put(router.frame(datagram(label, SILENT)))
        router.wait(ring.is_worked_off)


def test_frames_wait_until_arp_has_taken_those_before_them(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    put(router, ring, 1, 2, 3)
    router.wait(lambda: len(router.unresolved) == 3)
    router.learn(1, SILENT, untaken=2)
    router.wait(lambda: router.asked == 1)  # and is answered
    put(router, ring, 4, 5)
    router.wait(lambda: numbers(router.hosts[1].datagrams()) == [4, 5])
    assert len(router.unresolved) == 3, "arp sends those itself"


def test_frames_that_waited_leave_first(fresh: Router, fresh_ring: Ring) -> None:
    """Without an answer of arp the neighbour is used after a second all the same."""
    router, ring = fresh, fresh_ring
    router.arp_answers = False
    put(router, ring, 1)
    router.wait(lambda: len(router.unresolved) == 1)
    router.learn(1, SILENT, untaken=1)
    router.wait(lambda: router.asked > 0)
    put(router, ring, *range(2, 30))
    router.wait(lambda: len(router.hosts[1].heard) == 28)
    put(router, ring, 30)
    router.wait(lambda: len(router.hosts[1].heard) == 29)
    assert numbers(router.hosts[1].datagrams()) == list(range(2, 31))
    assert len(router.unresolved) == 1
    assert router.count(Counter.WAITING) == 0


def test_an_arp_that_takes_all_frames_at_once_is_not_asked(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    put(router, ring, 1)
    router.wait(lambda: len(router.unresolved) == 1)
    router.learn(1, SILENT)
    router.wait(lambda: router.rpc.call("route.get", {"dst": SILENT})["mac"] is not None)
    put(router, ring, 2)
    router.wait(lambda: numbers(router.hosts[1].datagrams()) == [2])
    assert router.asked == 0


def test_frames_held_by_a_forwarder_that_is_stopped_are_counted(fresh: Router, fresh_ring: Ring) -> None:
    router, ring = fresh, fresh_ring
    router.arp_answers = False
    put(router, ring, 1)
    router.wait(lambda: len(router.unresolved) == 1)
    router.learn(1, SILENT, untaken=1)
    put(router, ring, 2)
    assert router.stop("forwarder", signal.SIGTERM) == 0
    assert router.count(Counter.WAITING) == 0
    router.check_balance()
