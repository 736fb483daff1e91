"""`hopwire bench`, the real program: one round, each measurement a fraction of a second. Figures prove nothing here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.common import netns

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")]

LIMIT_S = 110.0
SHORT = ("--rounds", "1", "--seconds", "0.1")
MODES = {"kernel", "kernel+RPS", "hopwire"}
MEASURED = {"packets_60", "packets_1514", "tcp_forth", "tcp_back", "flood_rtt", "idle_rtt", "cpu_60", "cpu_1514"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.launcher", "bench", *SHORT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def document(done: "subprocess.CompletedProcess[str]", file: Path) -> Any:
    """Return what a run wrote, which it must have ended well for."""
    assert done.returncode == 0, done.stderr
    assert not [name for name in netns.names() if name.startswith("hw-bench-")]
    return json.loads(file.read_text())


def test_everything_at_once(tmp_path: Path) -> None:
    prefixes, file = tmp_path / "prefixes.txt", tmp_path / "bench.json"
    prefixes.write_text("".join(f"20.{number}.0.0/16\n" for number in range(200)) + "21.0.0.0/8\n21.0.1.0/24\n")
    search = ("--loss-free", "--trial-seconds", "0.1", "--latency")
    done = bench("--table", str(prefixes), *search, "--output", str(file))

    found = document(done, file)
    assert (found["routes"], found["options"]["rounds"]) == (202, 1)
    assert set(found["samples"]) == MODES
    latencies = {f"rtt_{load}_p{percent}" for load in (10, 50, 90) for percent in (50, 90, 99)}
    for mode, (values,) in found["samples"].items():
        assert set(values) >= MEASURED | latencies | {"loss_free", "lossy", "loss_free_bound", "others_cpu"}
        assert ("idle_cpu" in values) is ("router_cpu_60" in values) is (mode == "hopwire")
        assert 0 < values["packets_60"] <= values["offered_60"]
        assert 0 <= values["loss_free"] <= values["lossy"]
        assert 0 < values["rtt_50_p50"] <= values["rtt_50_p90"] <= values["rtt_50_p99"]
        (trials,) = found["trials"][mode]
        assert trials[0]["intended"] == values["offered_60"]
        assert all(0 <= trial["lost"] <= trial["sent"] for trial in trials)
    assert found["samples"]["hopwire"][0]["router_cpu_60"] > 0
    assert set(found["ratios"]) == {"kernel", "kernel+RPS"}
    assert found["ratios"]["kernel"]["packets_60"] > 0
    for title in ("60-byte frames, k/s", "60-byte frames, loss-free, k/s", "RTT at 90 % load, 99th percentile, µs"):
        assert f"│ {title} " in done.stdout
    assert "202 routes, from one host" in done.stdout


def test_a_prefix_file_that_is_none(tmp_path: Path) -> None:
    done = bench("--table", str(tmp_path / "nothing"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file or directory" in done.stderr
    assert done.stderr.endswith("; name another file\n")
    (tmp_path / "empty").write_text("2001:db8::/32\n")
    done = bench("--table", str(tmp_path / "empty"))
    assert (done.returncode, done.stderr) == (
        1,
        f"hopwire: prefixes {tmp_path / 'empty'}: there is no IPv4 prefix; name another file\n",
    )
