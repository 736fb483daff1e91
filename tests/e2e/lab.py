"""The lab of docker-compose.yml on a real engine, as its tests see it."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import docker
from docker.errors import ImageNotFound, NotFound
from docker.models.containers import Container

ROOT: Final = Path(__file__).resolve().parents[2]
PROJECT: Final = "hopwire"
UP: Final = "docker compose up --detach --wait"
"""What the README tells users to type first."""
PATIENCE: Final = float(os.environ.get("E2E_PATIENCE", "1"))
LIMIT_S: Final = 60.0 * PATIENCE
"""The most that a test waits for a state, unless it says otherwise."""
SERVICES: Final = ("ingress1", "ingress2", "forwarder", "arp", "control")
IMAGES: Final = ("router", "ingress", "forwarder", "arp", "control", "host")
_POLL_S: Final = 0.1
_STAND_INS: Final = {"prom/prometheus": ROOT / "tests/e2e/prometheus.Dockerfile"}
_LEFT_OUT: Final = {"grafana/grafana": "tests/e2e/without-grafana.yml"}

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """Look again and again until something true is seen, and return that."""
    deadline = time.monotonic() + limit_s
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}; seen last: {seen!r}")
        time.sleep(_POLL_S)
    return seen


class ComposeLab:
    """The project `hopwire` on an engine.

    :ivar figures: what was measured, by name: for the summary of the run, and the docs.
    """

    def __init__(self) -> None:
        """Reach the engine; nothing is built yet."""
        self.client = docker.from_env()
        self.figures: dict[str, str] = {}
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("COMPOSE_")}

    def prepare(self) -> None:
        """Build all images, and see to those of others where no registry is reached."""
        files = ["docker-compose.yml"]
        for image in self._foreign_images():
            name = image.partition(":")[0]
            if self._is_to_be_had(image):
                continue
            if name in _STAND_INS:
                self.run("docker", "build", "--quiet", "--tag", image, "--file", _STAND_INS[name], "tests/e2e")
            else:
                files.append(_LEFT_OUT[name])
        self._environment["COMPOSE_FILE"] = ":".join(files)
        began = time.monotonic()
        self.run("docker", "compose", "build", "--quiet")
        self.figures["build (with what the cache had)"] = f"{time.monotonic() - began:.1f} s"

    def _foreign_images(self) -> list[str]:
        configuration = json.loads(self.run("docker", "compose", "config", "--format", "json"))
        return [service["image"] for service in configuration["services"].values() if "build" not in service]

    def _is_to_be_had(self, image: str) -> bool:
        try:
            self.client.images.get(image)
        except ImageNotFound:
            done = subprocess.run(["docker", "pull", "--quiet", image], capture_output=True, check=False)
            return done.returncode == 0
        return True

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Run a command at the top of the tree, and return what it prints."""
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=1200
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def up(self) -> float:
        """Bring the lab up, as the README says, and return the seconds it took."""
        began = time.monotonic()
        self.run(*UP.split())
        return time.monotonic() - began

    def down(self) -> None:
        """Take the lab down, with its volumes."""
        self.run("docker", "compose", "down", "--volumes")

    def execute(self, service: str, *command: str) -> str:
        """Run a command in a service's container as users do."""
        return self.run("docker", "compose", "exec", "--no-TTY", service, *command)

    def container(self, service: str) -> Container:
        """Return a service's container as it is now."""
        found: list[Container] = self.client.containers.list(
            all=True,
            filters={"label": [f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}"]},
        )
        assert len(found) == 1, f"{service}: {found}"
        return found[0]

    def kill(self, service: str) -> None:
        """Kill process 1 of a service's container as a crash would: the engine starts it again.

        `docker kill` would not do: the engine takes that for the user's wish.
        """
        pid = self.container(service).attrs["State"]["Pid"]
        self.client.containers.run(
            "hopwire/host", entrypoint=["sh", "-c", f"kill -9 {pid}"], pid_mode="host", network_mode="none", remove=True
        )

    def health(self, service: str) -> str:
        """Return what the engine thinks of a service: healthy, unhealthy, starting; empty while it does not run."""
        state = self.container(service).attrs["State"]
        return str(state.get("Health", {}).get("Status", "")) if state["Running"] else ""

    def last_probe(self, service: str) -> str:
        """Return what the last health check of a service printed."""
        probes = self.container(service).attrs["State"].get("Health", {}).get("Log") or [{"Output": ""}]
        return str(probes[-1]["Output"])

    def kill_child(self, service: str) -> None:
        """Kill the service itself; process 1 of its container lives on."""
        self.execute(service, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")

    def wait_healthy(self, services: Sequence[str] = (*SERVICES, "router", "host1", "host2")) -> None:
        """Wait until these are healthy."""
        wait_for(
            "all services are healthy",
            lambda: all(self.health(service) == "healthy" for service in services),
        )

    def control(self, *words: str) -> Any:
        """Return the answer of control-cli."""
        return json.loads(self.execute("control", "control-cli", "--json", *words))

    def wait_balanced(self) -> dict[str, int]:
        """Wait until every frame is accounted for, and return the balance."""

        def look() -> dict[str, int] | None:
            balance: dict[str, int] = self.control("counters")["balance"]
            return balance if balance["in_flight"] == 0 and balance["waiting"] == 0 else None

        return wait_for("the balance of the counters holds", look)

    def namespace(self, service: str) -> str:
        """Return the network namespace of a container, as the kernel names it; empty while it does not run."""
        command = ("docker", "compose", "exec", "--no-TTY", service, "readlink", "/proc/self/ns/net")
        return self.run(*command, check=False).strip()

    def leftovers(self) -> list[str]:
        """Return the names of what is there of the project: containers, networks, volumes."""
        label = {"label": f"com.docker.compose.project={PROJECT}"}
        return [
            *(one.name for one in self.client.containers.list(all=True, filters=label)),
            *(one.name for one in self.client.networks.list(filters=label)),
            *(one.name for one in self.client.volumes.list(filters=label)),
        ]


def remove(container: Container) -> None:
    """Remove a container, if it is still there."""
    try:
        container.remove(force=True)
    except NotFound:
        return
