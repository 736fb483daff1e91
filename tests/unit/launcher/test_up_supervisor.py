"""The supervisor's decisions, on a virtual clock."""

from services.launcher.up.supervisor import Action, Supervisor


def start(*instances: str) -> list[Action]:
    return [Action("start", instance) for instance in instances]


def terminate(*instances: str) -> list[Action]:
    return [Action("terminate", instance) for instance in instances]


def running(interfaces: dict[str, int] | None = None, *, ready: bool = True) -> Supervisor:
    """A supervisor that has started everything at time 0."""
    supervisor = Supervisor()
    supervisor.set_interfaces(interfaces or {})
    supervisor.actions(0.0)
    if ready:
        supervisor.set_ready()
    return supervisor


def test_starts_the_services_at_once_and_one_ingress_an_interface() -> None:
    supervisor = Supervisor()
    assert supervisor.actions(0.0) == start("fork-server", "control", "arp", "forwarder")
    assert supervisor.deadline() == float("inf")
    supervisor.set_interfaces({"eth0": 2, "eth1": 3})
    assert supervisor.actions(0.1) == start("ingress-eth0", "ingress-eth1")
    assert supervisor.actions(0.2) == []


def test_restarts_at_once_and_then_with_doubling_pauses_up_to_five_seconds() -> None:
    supervisor = running()
    now = 1.0
    pauses = []
    for _ in range(9):
        supervisor.on_exit("arp", -9, now)
        due = supervisor.deadline()
        pauses.append(round(due - now, 6))
        if due > now:
            assert supervisor.actions(due - 0.001) == []
        assert supervisor.actions(due) == start("arp")
        now = due + 0.5
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_ten_seconds_of_life_forgive_earlier_deaths() -> None:
    supervisor = running()
    supervisor.on_exit("arp", 1, 1.0)
    supervisor.actions(1.0)
    supervisor.on_exit("arp", 1, 2.0)
    assert supervisor.deadline() == 2.1
    supervisor.actions(2.1)
    supervisor.on_exit("arp", 1, 12.0)
    assert supervisor.deadline() == 12.2, "9.9 s of life are not enough"
    supervisor.actions(12.2)
    supervisor.on_exit("arp", 1, 22.2)
    assert supervisor.deadline() == 22.2
    assert supervisor.actions(22.2) == start("arp")


def test_a_fork_server_that_dies_is_restarted_like_a_service_and_takes_nobody_along() -> None:
    supervisor = running({"eth0": 2})
    assert supervisor.on_exit("fork-server", -9, 1.0)
    assert supervisor.actions(1.0) == start("fork-server")
    assert supervisor.on_exit("fork-server", -9, 1.5)
    assert supervisor.deadline() == 1.6
    assert supervisor.actions(1.6) == start("fork-server")


def test_deaths_of_one_service_do_not_delay_another() -> None:
    supervisor = running()
    for now in (1.0, 1.01):
        supervisor.on_exit("arp", -9, now)
        supervisor.actions(now)
    supervisor.on_exit("forwarder", -9, 1.02)
    assert supervisor.actions(1.02) == start("forwarder")


def test_an_interface_that_vanishes_loses_its_ingress_and_gets_a_new_one_when_it_is_back() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({})
    assert supervisor.actions(1.0) == terminate("ingress-eth0")
    supervisor.set_interfaces({"eth0": 7})
    assert supervisor.actions(1.1) == [], "the old one still holds the name"
    assert not supervisor.on_exit("ingress-eth0", 0, 1.2)
    assert supervisor.actions(1.2) == start("ingress-eth0")


def test_an_ingress_goes_on_while_its_interface_is_down() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({}, down={"eth0": 2})
    assert supervisor.actions(1.0) == []
    supervisor.set_interfaces({"eth0": 2})
    assert supervisor.actions(2.0) == []


def test_no_ingress_is_started_for_an_interface_that_is_down() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({}, down={"eth0": 2, "eth1": 3})
    assert supervisor.actions(1.0) == []
    assert not supervisor.on_exit("ingress-eth0", 1, 1.1)
    assert supervisor.actions(1.1) == []
    supervisor.set_interfaces({"eth0": 2})
    assert supervisor.actions(1.2) == start("ingress-eth0")


def test_an_ingress_does_not_go_on_for_another_interface_of_its_name() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({}, down={"eth0": 9})
    assert supervisor.actions(1.0) == terminate("ingress-eth0")


def test_another_interface_of_the_same_name_gets_an_ingress_of_its_own() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({"eth0": 9})
    assert supervisor.actions(1.0) == terminate("ingress-eth0")
    supervisor.on_exit("ingress-eth0", -15, 1.1)
    assert supervisor.actions(1.1) == start("ingress-eth0")
    assert supervisor.actions(1.2) == []


def test_an_ingress_that_died_is_forgotten_with_its_interface() -> None:
    supervisor = running({"eth0": 2})
    for now in (1.0, 1.0):
        supervisor.on_exit("ingress-eth0", 1, now)
        supervisor.actions(now)
    supervisor.on_exit("ingress-eth0", 1, 1.0)
    supervisor.set_interfaces({})
    assert supervisor.actions(9.0) == []
    assert supervisor.deadline() == float("inf")
    supervisor.set_interfaces({"eth0": 2})
    supervisor.actions(10.0)
    supervisor.on_exit("ingress-eth0", 1, 10.5)
    assert supervisor.deadline() == 10.5, "its earlier deaths do not count"


def test_an_ingress_that_does_not_heed_sigterm_is_killed_once() -> None:
    supervisor = running({"eth0": 2})
    supervisor.set_interfaces({})
    supervisor.actions(1.0)
    assert supervisor.deadline() == 6.0
    assert supervisor.actions(5.9) == []
    assert supervisor.actions(6.0) == [Action("kill", "ingress-eth0")]
    assert supervisor.actions(7.0) == []
    supervisor.on_exit("ingress-eth0", -9, 7.1)
    assert supervisor.actions(7.1) == []


def test_stops_ingress_first_and_control_last() -> None:
    supervisor = running({"eth0": 2, "eth1": 3})
    supervisor.stop()
    assert supervisor.actions(1.0) == terminate("fork-server", "ingress-eth0", "ingress-eth1")
    supervisor.on_exit("fork-server", -15, 1.0)
    supervisor.on_exit("ingress-eth1", 0, 1.1)
    assert supervisor.actions(1.1) == []
    supervisor.on_exit("ingress-eth0", 0, 1.2)
    for now, service in ((1.2, "forwarder"), (1.3, "arp"), (1.4, "control")):
        assert not supervisor.finished
        assert supervisor.actions(now) == terminate(service)
        assert supervisor.actions(now) == []
        supervisor.on_exit(service, 0, now)
    assert supervisor.finished
    assert supervisor.actions(9.0) == []
    assert supervisor.failed is None


def test_stopping_kills_what_hangs_and_goes_on() -> None:
    supervisor = running()
    supervisor.on_exit("fork-server", -9, 0.9)
    supervisor.stop()
    assert supervisor.actions(1.0) == terminate("forwarder")
    assert supervisor.deadline() == 6.0
    assert supervisor.actions(6.0) == [Action("kill", "forwarder")]
    supervisor.on_exit("forwarder", -9, 6.1)
    assert supervisor.actions(6.1) == terminate("arp")


def test_stopping_starts_nothing_any_more() -> None:
    supervisor = running({"eth0": 2})
    for now in (1.0, 1.0):
        supervisor.on_exit("arp", -9, now)
        supervisor.actions(now)
    supervisor.on_exit("arp", -9, 1.0)
    supervisor.stop()
    supervisor.set_interfaces({"eth0": 2, "eth1": 3})
    assert supervisor.actions(10.0) == terminate("fork-server", "ingress-eth0")
    supervisor.on_exit("fork-server", -15, 10.1)
    supervisor.on_exit("forwarder", -9, 10.1)
    supervisor.on_exit("ingress-eth0", 0, 10.2)
    assert supervisor.actions(10.2) == terminate("control"), "arp and forwarder are gone already"
    supervisor.on_exit("control", 0, 10.3)
    assert supervisor.finished


def test_stopping_before_anything_ran_is_over_at_once() -> None:
    supervisor = Supervisor()
    supervisor.stop()
    assert supervisor.actions(0.0) == []
    assert supervisor.finished


def test_an_error_exit_before_the_router_was_ready_stops_everything() -> None:
    supervisor = running({"eth0": 2}, ready=False)
    assert not supervisor.on_exit("control", 1, 0.2)
    assert supervisor.failed == "control"
    assert supervisor.stopping
    assert supervisor.actions(0.2) == terminate("fork-server", "ingress-eth0")
    supervisor.on_exit("ingress-eth0", 1, 0.3)
    assert supervisor.failed == "control"


def test_a_killed_service_is_restarted_even_before_the_router_was_ready() -> None:
    supervisor = running(ready=False)
    supervisor.on_exit("control", -9, 0.2)
    assert supervisor.failed is None
    assert supervisor.actions(0.2) == start("control")


def test_an_error_exit_of_an_ingress_whose_interface_is_gone_is_no_failure() -> None:
    supervisor = running({"eth0": 2}, ready=False)
    supervisor.set_interfaces({})
    supervisor.on_exit("ingress-eth0", 1, 0.2)
    assert supervisor.failed is None
    assert supervisor.actions(0.2) == []


def test_an_error_exit_after_the_router_was_ready_is_followed_by_a_restart() -> None:
    supervisor = running()
    assert supervisor.on_exit("control", 1, 0.2)
    assert supervisor.failed is None
    assert supervisor.actions(0.2) == start("control")
