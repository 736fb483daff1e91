"""A control in a namespace of its own, and the real control-cli for it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from control_harness import LIMIT_S, REPOSITORY, Namespace, Router, router, wait_for

PROGRAM = [sys.executable, "-m", "services.control.cli"]


class ConfiguredRouter(Router):
    """Control, the client of its RPC, and control-cli; files are written in a folder of the test's own."""

    folder: Path

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [*PROGRAM, "--run-dir", str(self.endpoints.run_dir), *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=LIMIT_S, check=False)

    def change(self, *words: str) -> None:
        done = self.cli(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (words, done.stderr)

    def shown(self, *words: str) -> Any:
        done = self.cli("-j", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return json.loads(done.stdout)

    def refused(self, *words: str, status: int = 1) -> str:
        done = self.cli(*words)
        assert (done.returncode, done.stdout) == (status, ""), (words, done.stdout)
        assert done.stderr.startswith("control-cli: ")
        return done.stderr.removeprefix("control-cli: ").splitlines()[0]

    def restart(self, number: signal.Signals) -> None:
        """Stop control by a signal, start it again, and wait until it has published its state."""
        self.control.stop(number)
        before = self.follower.snapshots
        self.start()
        self.wait_until(lambda follower: follower.snapshots > before, "control is back")

    def warned(self) -> list[str]:
        """Wait for warnings in `status`, and return them."""
        return wait_for(lambda: list(self.ask("status")["warnings"]), "a warning")

    def file(self, text: str, name: str = "r.yaml") -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def apply(self, text: str, *options: str) -> None:
        self.change("config", "apply", self.file(text), *options)


@contextmanager
def configured(space: Namespace, run_dir: Path, *arguments: str) -> Iterator[ConfiguredRouter]:
    with router(space, run_dir, *arguments, kind=ConfiguredRouter) as running:
        running.folder = run_dir.parent
        running.wait_until_mirrored()
        yield running


def kernel_routes(space: Namespace) -> dict[str, Any]:
    """Return the routes of table main that the kernel did not make by itself, by destination and metric."""
    return {
        f"{one['dst']} {one.get('metric', 0)}": one
        for one in space.ip("route", "show", "table", "main")
        if one.get("protocol") != "kernel"
    }


def kernel_addresses(space: Namespace, name: str) -> list[str]:
    (link,) = space.ip("-4", "addr", "show", "dev", name) or [{"addr_info": []}]
    return [f"{one['local']}/{one['prefixlen']}" for one in link.get("addr_info", [])]


def kernel_link(space: Namespace, name: str) -> tuple[bool, int]:
    """Return whether a link is up, and its MTU."""
    (link,) = space.ip("link", "show", "dev", name)
    return "UP" in link["flags"], link["mtu"]
