"""What the doctor says about facts that it is given."""

from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path

import pytest

from services.common.interfaces import InterfaceInfo
from services.launcher.doctor.finding import Finding, Level, fine
from services.launcher.doctor.machine import memory_finding
from services.launcher.doctor.network import interface_findings
from services.launcher.doctor.router import file_system_finding, status_findings
from services.launcher.status import InterfaceStatus, RouterStatus, ServiceStatus

ETH0 = InterfaceInfo(2, "eth0", b"\2\0\0\0\0\2", 1500, 1, True, 0, (IPv4Interface("10.0.10.20/24"),))
LOOPBACK = InterfaceInfo(1, "lo", bytes(6), 65_536, 772, True, 0, (IPv4Interface("127.0.0.1/8"),))
READY = RouterStatus(
    ready=True,
    waiting_for=[],
    warnings=[],
    routes=2,
    interfaces=[
        InterfaceStatus(name="eth0", addresses=["10.0.10.20/24"], forwarding=True),
        InterfaceStatus(name="eth1", addresses=[], forwarding=False),
    ],
    services=[ServiceStatus(service="arp", instance="arp", pid=7, up=True, ready=True)],
)


def test_an_errors_line_is_split_at_its_first_semicolon() -> None:
    assert Finding.of_line(Level.WRONG, "no wire; plug it in; or two") == Finding(
        Level.WRONG, "no wire", "plug it in; or two"
    )
    assert Finding.of_line(Level.NOTE, "no wire") == Finding(Level.NOTE, "no wire", "")


def test_interfaces_that_are_up_with_addresses_are_fine() -> None:
    assert list(interface_findings([LOOPBACK, ETH0])) == [fine("eth0 10.0.10.20/24 is up")]


@pytest.mark.parametrize(
    ("interface", "level", "words"),
    [
        (replace(ETH0, addresses=()), Level.NOTE, "eth0 is up, but has no IPv4 address"),
        (replace(ETH0, is_up=False), Level.NOTE, "eth0 10.0.10.20/24 is down"),
        (replace(ETH0, link_type=65_534), Level.NOTE, "eth0 is not Ethernet"),
    ],
)
def test_interfaces_that_do_not_route_are_told(interface: InterfaceInfo, level: Level, words: str) -> None:
    finding = next(one for one in interface_findings([LOOPBACK, interface]) if one.text.startswith("eth0"))
    assert finding.level is level
    assert finding.text.startswith(words)
    assert finding.remedy


@pytest.mark.parametrize(
    "interfaces", [[], [LOOPBACK], [replace(ETH0, is_up=False, addresses=())], [replace(ETH0, master=9)]]
)
def test_no_interface_to_route_by_is_wrong(interfaces: list[InterfaceInfo]) -> None:
    (finding,) = interface_findings(interfaces)
    assert (finding.level, finding.text) == (Level.WRONG, "no Ethernet interface is up")


@pytest.mark.parametrize(("available_kib", "level"), [(900 * 1024, Level.FINE), (899 * 1024, Level.NOTE)])
def test_memory_is_judged_by_the_number_of_interfaces(available_kib: int, level: Level) -> None:
    meminfo = f"MemTotal: 2048 kB\nMemAvailable:   {available_kib} kB\nHugePages_Total: 0\n"
    assert memory_finding(meminfo, 2).level is level


MOUNTS = "/dev/vda / ext4 rw 0 0\nproc /proc proc rw 0 0\ntmpfs /run tmpfs rw,mode=755 0 0\n"


def test_a_run_directory_in_memory_is_fine() -> None:
    assert file_system_finding(Path("/run/hopwire"), MOUNTS) == fine("/run/hopwire lies in memory (tmpfs)")


def test_a_run_directory_on_a_disk_is_told() -> None:
    finding = file_system_finding(Path("/var/hopwire"), MOUNTS)
    assert finding.level is Level.NOTE
    assert finding.text == "/var/hopwire lies on / (ext4), not in memory: the kernel writes frames to that disk"


def test_the_mount_on_top_counts() -> None:
    mounts = MOUNTS + "/dev/vdb /run ext4 rw 0 0\n"
    assert file_system_finding(Path("/run/hopwire"), mounts).level is Level.NOTE


def test_a_ready_router_is_fine() -> None:
    assert list(status_findings(READY)) == [fine("the router is ready and forwards on eth0")]


def test_a_router_that_does_not_answer_is_wrong() -> None:
    (finding,) = status_findings(None)
    assert (finding.level, finding.text) == (Level.WRONG, "control does not answer")


def test_a_router_that_waits_says_for_what() -> None:
    waiting = READY.model_copy(update={"ready": False, "waiting_for": ["forwarder: not ready yet", "eth1: no ingress"]})
    (finding,) = status_findings(waiting)
    assert (finding.level, finding.text) == (
        Level.WRONG,
        "the router is not ready: it waits for forwarder: not ready yet, eth1: no ingress",
    )


def test_a_silent_service_and_controls_warnings_are_told() -> None:
    silent = READY.services[0].model_copy(update={"up": False})
    status = READY.model_copy(update={"services": [silent], "warnings": ["ip_forward is on; turn it off"]})
    _, lost, warning = status_findings(status)
    assert (lost.level, lost.text) == (Level.WRONG, "arp is not heard of any more")
    assert warning == Finding(Level.NOTE, "ip_forward is on", "turn it off")
