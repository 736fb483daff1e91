"""`docker compose up` as the README tells it: traffic, control-cli, metrics, and what the containers may do."""

import json
import re
import urllib.parse
import urllib.request
from typing import Any

import pytest
from lab import IMAGES, PATIENCE, ROOT, SERVICES, UP, ComposeLab, wait_for

UP_LIMIT_S = 10.0 * PATIENCE
IMAGE_LIMITS_MB = dict.fromkeys(IMAGES, 500) | {"arp": 200}
CAPABILITIES = {
    "router": 0,
    "ingress1": 1 << 13,  # CAP_NET_RAW (linux/capability.h)
    "ingress2": 1 << 13,
    "arp": 1 << 13,
    "forwarder": 1 << 13 | 1 << 12,  # and CAP_NET_ADMIN
    "control": 1 << 12,
}
ABSENT = {
    "router": ("zmq", "numpy", "numba", "yaml", "prometheus_client", "pip"),
    "arp": ("numpy", "numba", "yaml", "prometheus_client", "pip"),
    "control": ("pip",),
    "ingress": ("yaml", "prometheus_client", "pip"),
    "forwarder": ("yaml", "prometheus_client", "pip"),
}


def test_the_readme_begins_with_what_is_tested_here() -> None:
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"^(docker .*?)\s*(?:#.*)?$", readme, re.MULTILINE)
    assert commands[0] == UP


def test_all_is_healthy_within_ten_seconds(engine: ComposeLab) -> None:
    engine.down()
    seconds = engine.up()
    engine.figures[f"{UP} (nothing to build)"] = f"{seconds:.1f} s"
    assert seconds <= UP_LIMIT_S


def test_the_hosts_reach_each_other_through_the_router(lab: ComposeLab) -> None:
    answer = lab.execute("host1", "ping", "-c", "5", "-i", "0.2", "10.0.11.20")
    assert "5 received" in answer
    assert "ttl=63" in answer
    hops = lab.execute("host1", "traceroute", "-n", "-q", "1", "10.0.11.20")
    assert [line.split()[1] for line in hops.splitlines()[1:]] == ["10.0.10.20", "10.0.11.20"]


@pytest.mark.parametrize(("client", "server"), [("host1", "10.0.11.20"), ("host2", "10.0.10.10")])
def test_iperf3_works_with_no_further_step(lab: ComposeLab, client: str, server: str) -> None:
    report = json.loads(lab.execute(client, "iperf3", "--client", server, "--time", "2", "--json"))
    received = report["end"]["sum_received"]
    lab.figures[f"iperf3 {client} to {server}"] = f"{received['bits_per_second'] / 1e9:.1f} Gbit/s"
    assert received["bytes"] > 0
    lab.wait_balanced()


def test_the_kernel_leaves_everything_to_hopwire(lab: ComposeLab) -> None:
    assert lab.control("status")["warnings"] == []


def test_control_cli_changes_the_routes(lab: ComposeLab) -> None:
    def pings() -> bool:
        command = "docker compose exec --no-TTY host1 ping -c 1 -W 1 10.0.11.20"
        return "1 received" in lab.run(*command.split(), check=False)

    assert pings()
    lab.execute("control", "control-cli", "route", "add", "blackhole", "10.0.11.20/32")
    try:
        wait_for("the route is followed", lambda: not pings())
    finally:
        lab.execute("control", "control-cli", "route", "del", "10.0.11.20/32")
    wait_for("the old route is back", pings)


def test_prometheus_sees_the_traffic(lab: ComposeLab) -> None:
    def query(expression: str) -> list[Any]:
        url = f"http://127.0.0.1:9090/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            result: list[Any] = json.load(answer)["data"]["result"]
        return result

    lab.execute("host1", "ping", "-c", "5", "-i", "0.2", "10.0.11.20")
    wait_for("Prometheus scrapes control", lambda: [one for one in query("up") if one["value"][1] == "1"])
    wait_for(
        "it has counted frames",
        lambda: [one for one in query('{__name__=~"hopwire_.*frames.*"}') if float(one["value"][1]) > 0],
    )


@pytest.mark.parametrize("service", [*SERVICES, "router"])
def test_a_container_may_do_what_it_needs_and_no_more(lab: ComposeLab, service: str) -> None:
    status = dict(line.partition(":\t")[::2] for line in lab.execute(service, "cat", "/proc/1/status").splitlines())
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[kind], 16) == CAPABILITIES[service], kind
    assert status["NoNewPrivs"] == "1"
    settings = lab.container(service).attrs["HostConfig"]
    assert settings["ReadonlyRootfs"]
    assert not settings["Privileged"]
    assert settings["Memory"] > 0
    assert 0 < settings["PidsLimit"] <= 64
    assert settings["RestartPolicy"]["Name"] == "unless-stopped"


def test_the_run_directory_is_in_memory_and_closed_to_others(lab: ComposeLab) -> None:
    assert lab.execute("arp", "stat", "-c", "%a %U", "/run/hopwire").strip() == "750 root"
    assert lab.execute("arp", "stat", "-f", "-c", "%T", "/run/hopwire").strip() == "tmpfs"


def test_no_tun_device_is_needed(lab: ComposeLab) -> None:
    for service in (*SERVICES, "router"):
        assert lab.run("docker", "compose", "exec", "--no-TTY", service, "ls", "/dev/net/tun", check=False) == ""


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_small(engine: ComposeLab, image: str) -> None:
    assert engine.client.images.get(f"hopwire/{image}").attrs["Size"] / 1e6 < IMAGE_LIMITS_MB[image]


@pytest.mark.parametrize("image", list(ABSENT))
def test_an_image_has_no_dependency_of_another_service(engine: ComposeLab, image: str) -> None:
    look = f"import importlib.util as u; print([n for n in {ABSENT[image]!r} if u.find_spec(n)])"
    printed = engine.client.containers.run(f"hopwire/{image}", entrypoint=["python3", "-c", look], remove=True)
    assert printed.decode().strip() == "[]"
    folders = engine.client.containers.run(f"hopwire/{image}", entrypoint=["ls", "services"], remove=True).decode()
    own = set() if image == "router" else {image}
    assert set(folders.split()) == {"__init__.py", "__pycache__", "common", "container"} | own


@pytest.mark.parametrize("image", ["ingress", "forwarder"])
def test_kernels_are_compiled_when_the_image_is_built(engine: ComposeLab, image: str) -> None:
    look = (
        "import gc; from numba.core.dispatcher import Dispatcher; from services.common import kernels; "
        "kernels.compile_all(); stats = [one.stats for one in gc.get_objects() if isinstance(one, Dispatcher)]; "
        "print(sum(sum(one.cache_hits.values()) for one in stats) > 0, "
        "sum(sum(one.cache_misses.values()) for one in stats))"
    )
    printed = engine.client.containers.run(
        f"hopwire/{image}", entrypoint=["python3", "-c", look], read_only=True, network_mode="none", remove=True
    )
    assert printed.decode().split() == ["True", "0"]
