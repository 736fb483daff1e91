"""What is wrong is said in one line of the container's log, and by its health check."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
from docker.models.containers import Container
from lab import ComposeLab, remove, wait_for

_SECOND_NS: Final = 1_000_000_000
_NO_NFTABLES: Final = {
    # socket(AF_NETLINK, …, NETLINK_NETFILTER) fails with EPROTONOSUPPORT, as in a kernel without netfilter's netlink
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 93,
            "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 12, "op": "SCMP_CMP_EQ"}],
        }
    ],
}

Start = Callable[..., Container]


@pytest.fixture
def start(lab: ComposeLab) -> Iterator[Start]:
    """Start one more container of a service, as docker-compose.yml does but for what is given."""
    started: list[Container] = []

    def run(image: str, *command: str, **differently: Any) -> Container:
        options: dict[str, Any] = {
            "network_mode": f"container:{lab.container('router').id}",
            "volumes": {"hopwire_run": {"bind": "/run/hopwire", "mode": "rw"}},
            "environment": {"HOPWIRE_HOLDER": "router"},
            "cap_drop": ["ALL"],
            "cap_add": ["NET_RAW"],
            "security_opt": ["no-new-privileges:true"],
            "read_only": True,
            "healthcheck": {"test": [], "interval": _SECOND_NS, "retries": 1, "start_period": _SECOND_NS},
        }
        container: Container = lab.client.containers.run(
            f"hopwire/{image}", list(command), detach=True, **(options | differently)
        )
        started.append(container)
        return container

    yield run
    for container in started:
        remove(container)


def health(container: Container) -> tuple[str, str]:
    """Return the container's state of health, and what its last health check said."""
    container.reload()
    state = container.attrs["State"].get("Health", {})
    probes = state.get("Log") or [{"Output": ""}]
    return str(state.get("Status")), str(probes[-1]["Output"]).strip()


def plain_lines(container: Container) -> list[str]:
    """Return the lines of the log that are no log events."""
    return [line for line in container.logs().decode().splitlines() if not line.startswith("{")]


def assert_says(container: Container, *words: str) -> None:
    """Check that the container is unhealthy, and log and health check say the same in one line, with these words."""
    line = wait_for("it complains", lambda: plain_lines(container))[0]
    assert [word for word in words if word not in line] == []
    wait_for("the health check says it", lambda: health(container) == ("unhealthy", line))
    assert plain_lines(container) == [line]
    assert container.attrs["State"]["Running"]


@pytest.mark.parametrize(
    ("image", "capabilities", "missing"),
    [
        ("arp", [], "CAP_NET_RAW missing; give the container cap_add: [NET_RAW]"),
        ("ingress", ["NET_ADMIN"], "CAP_NET_RAW missing; give the container cap_add: [NET_RAW]"),
        ("forwarder", ["NET_RAW"], "CAP_NET_ADMIN missing; give the container cap_add: [NET_ADMIN]"),
        ("control", [], "CAP_NET_ADMIN missing; give the container cap_add: [NET_ADMIN]"),
    ],
)
def test_a_missing_capability(start: Start, image: str, capabilities: list[str], missing: str) -> None:
    assert_says(start(image, cap_add=capabilities), f"hopwire {image}: {missing}")


def test_a_subnet_that_no_interface_has(start: Start) -> None:
    container = start("ingress", "--interface", "10.99.0.0/24")
    assert_says(container, "hopwire ingress: no interface matches '10.99.0.0/24'", "10.0.10.20/24", "10.0.11.10/24")


def test_two_services_for_one_interface(start: Start) -> None:
    assert_says(start("ingress", "--interface", "10.0.10.20"), "hopwire ingress: ingress-eth", "already runs")


@pytest.mark.parametrize("tmpfs", [{}, {"/run/hopwire": "mode=0750"}])
def test_a_run_directory_that_is_not_shared(start: Start, tmpfs: dict[str, str]) -> None:
    container = start("arp", volumes={}, tmpfs=tmpfs)
    assert_says(container, "hopwire arp:", "has left no word in /run/hopwire; mount the same volume there in both")


def test_a_run_directory_that_cannot_be_written(start: Start) -> None:
    container = start("arp", volumes={}, environment={}, network_mode="none")
    assert_says(container, "hopwire arp: run directory /run/hopwire: Read-only file system")


def test_a_kernel_without_nftables(start: Start) -> None:
    container = start(
        "control",
        volumes={},
        environment={},
        network_mode="bridge",
        tmpfs={"/run/hopwire": "mode=0750"},
        cap_add=["NET_ADMIN"],
        security_opt=[f"seccomp={json.dumps(_NO_NFTABLES)}"],
    )
    words = "no nftables guard at netdev ingress (Protocol not supported): all works"
    wait_for("the health check says it", lambda: health(container)[0] == "healthy" and words in health(container)[1])
    assert len([line for line in container.logs().decode().splitlines() if words in line]) == 1


def test_a_service_in_another_namespace_than_the_router(start: Start) -> None:
    container = start("arp", network_mode="none")
    assert container.wait(timeout=60)["StatusCode"] == 75
    (line,) = plain_lines(container)
    assert "has a new one; this container starts again there" in line


def test_a_second_holder_on_the_same_run_directory(start: Start) -> None:
    container = start("router", network_mode="none")
    assert container.wait(timeout=60)["StatusCode"] == 1
    (line,) = plain_lines(container)
    assert line.startswith("hopwire router: another container holds the namespace for /run/hopwire")


def test_an_unknown_service(start: Start) -> None:
    container = start("arp", entrypoint=["python3", "-m", "services.container.keep", "nat"], network_mode="none")
    assert container.wait(timeout=60)["StatusCode"] == 2
    (line,) = plain_lines(container)
    assert line.startswith("usage: ")
