"""What arp loads: its container has neither NumPy nor Numba, and its core touches nothing outside."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import services.arp

FOLDER = Path(services.arp.__file__).parent
SHELL = {"questions.py", "route_client.py", "service.py", "transmit.py", "effects.py", "__main__.py"}
CORE = sorted(path.name for path in FOLDER.glob("*.py") if path.name not in SHELL)


def test_neither_numpy_nor_numba_is_loaded() -> None:
    code = "import sys, services.arp.__main__; print({'numpy', 'numba', 'llvmlite', 'pyroute2'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=FOLDER.parents[1], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", CORE)
def test_the_core_imports_no_socket_clock_bus_or_shell(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forbidden = {"socket", "time", "datetime", "random", "zmq", "structlog", "os", "threading", "asyncio"}
    forbidden |= {"services.common.bus", "services.common.runtime", "services.common.endpoints"}
    forbidden |= {f"services.arp.{shell.removesuffix('.py')}" for shell in SHELL}
    assert imported & forbidden == set()
