"""The files that deploy hopwire agree with each other and with what the services need."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from services.container.keep import NEEDED
from services.control.config import load

ROOT: Final = Path(__file__).resolve().parents[3]
CAPABILITIES: Final = {
    f"hopwire/{service}": sorted(name.removeprefix("CAP_") for name in needed) for service, needed in NEEDED.items()
} | {"hopwire/router": []}
HOST: Final = "hopwire/host"


def compose(name: str) -> list[tuple[str, dict[str, Any]]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / name).read_text())["services"]
    return list(services.items())


COMPOSE: Final = [
    pytest.param(service, id=f"{file}: {name}")
    for file in ("docker-compose.yml", "docker-compose.host.yml")
    for name, service in compose(file)
    if service["image"] in CAPABILITIES
]


def pod() -> list[dict[str, Any]]:
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes/hopwire.yml").read_text())
    (daemon_set,) = [document for document in documents if document["kind"] == "DaemonSet"]
    containers: list[dict[str, Any]] = daemon_set["spec"]["template"]["spec"]["containers"]
    return [container for container in containers if container["image"].startswith("hopwire/")]


@pytest.mark.parametrize("service", COMPOSE)
def test_a_composed_service_has_the_privileges_that_it_needs_and_bounds(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert sorted(service.get("cap_add", [])) == CAPABILITIES[service["image"]]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["restart"] == "unless-stopped"
    assert {"pids_limit", "mem_limit"} <= service.keys()
    assert any(volume.startswith("run:/run/hopwire") for volume in service["volumes"])


@pytest.mark.parametrize("container", [pytest.param(one, id=one["name"]) for one in pod()])
def test_a_container_of_the_pod_has_the_privileges_that_it_needs_and_bounds(container: dict[str, Any]) -> None:
    context = container["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert sorted(context["capabilities"]["add"]) == CAPABILITIES[container["image"].partition(":")[0]]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert "memory" in container["resources"]["limits"]
    assert {"name": "HOPWIRE_RUN_DIR", "value": "/run/hopwire/router"} in container["env"]


@pytest.mark.parametrize("services", [[service for _name, service in compose("docker-compose.host.yml")], pod()])
def test_no_service_is_left_out(services: list[dict[str, Any]]) -> None:
    assert {service["image"].partition(":")[0] for service in services} == CAPABILITIES.keys() - {"hopwire/router"}


def test_every_image_is_a_target_and_watches_over_its_service() -> None:
    targets = dict(
        re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM |\Z)", (ROOT / "Dockerfile").read_text(), re.M | re.S)
    )
    for image in CAPABILITIES:
        name = image.removeprefix("hopwire/")
        entry = ["hold"] if name == "router" else ["keep", name]
        words = ["python3", "-m", f"services.container.{entry[0]}", *entry[1:]]
        assert "ENTRYPOINT [" + ", ".join(f'"{word}"' for word in words) + "]" in targets[name]
    assert 'CMD ["python3", "-S", "-m", "services.container.health"]' in targets["base"]
    for _name, service in compose("docker-compose.yml"):
        if "build" in service:
            assert service["image"] == f"hopwire/{service['build']['target']}"
            assert service["build"]["target"] in targets


def test_the_unit_allows_what_the_launcher_needs() -> None:
    unit = (ROOT / "deploy/systemd/hopwire.service").read_text()
    assert "CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n" in unit
    assert "ProtectKernelTunables=yes" not in unit
    assert "Type=notify\n" in unit


def test_each_image_locks_the_versions_that_make_install_gives() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        return dict(re.findall(r"^([a-z0-9-]+)==(\S+ ?;?[^\\\n]*)", text, re.M))

    everything = pins("runtime.txt")
    for name in ("service.txt", "control.txt", "kernels.txt"):
        assert pins(name).items() <= everything.items(), name


def test_the_configuration_of_a_machine_is_valid() -> None:
    assert load(ROOT / "deploy/hopwire.yml").interfaces
