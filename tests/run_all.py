"""Runs all tests: the conformance suites, which wait for timers most of their time, beside all the others.

`python tests/run_all.py`; an interrupt goes to both, and both end by themselves. Exit status 0 only if both pass.
"""

import subprocess
import sys
import tempfile
from typing import Final

_CONFORMANCE: Final = ("tests/integration/conformance", "tests/integration/nat_conformance")
_LIMIT_S: Final = 60.0
"""For what is left to be cleaned up after an interrupt."""


def main() -> int:
    """Run both, and print what the conformance suites have to say after the others."""
    pytest = [sys.executable, "-m", "pytest"]
    with tempfile.TemporaryFile("w+") as said:
        beside = subprocess.Popen([*pytest, *_CONFORMANCE], stdout=said, stderr=subprocess.STDOUT)
        try:
            ignored = [f"--ignore={suite}" for suite in _CONFORMANCE]
            others = subprocess.run([*pytest, "--durations=20", *ignored], check=False).returncode
            conformance = beside.wait()
        except KeyboardInterrupt:  # which both have got as well, from the terminal
            others = conformance = 130
        finally:
            _end(beside)
        said.seek(0)
        print(f"{' and '.join(_CONFORMANCE)}:", said.read(), sep="\n")
    return others or conformance


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a process clean up; end it where it does not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
