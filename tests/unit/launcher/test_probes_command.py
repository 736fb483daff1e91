"""The probes' command lines: bad input is one line on stderr and status 2."""

import json
import subprocess
import sys

import pytest

PROBES = "services.launcher.probes."


def run(probe: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", PROBES + probe, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ping"], "the following arguments are required: destination"),
        (["ping", "host2"], "'host2' is no IPv4 address"),
        (["ping", "10.0.0.1", "--count", "0"], "'0' is no integer from 1 to 1000000"),
        (["ping", "10.0.0.1", "--count", "1e3"], "'1e3' is no integer"),
        (["ping", "10.0.0.1", "--ttl", "256"], "'256' is no integer from 1 to 255"),
        (["ping", "10.0.0.1", "--size", "65508"], "'65508' is no integer from 0 to 65507"),
        (["ping", "10.0.0.1", "--interval", "nan"], "'nan' is no number of seconds"),
        (["ping", "10.0.0.1", "--interval", "-1"], "'-1' is no number of seconds"),
        (["ping", "10.0.0.1", "--interval", "soon"], "'soon' is no number of seconds"),
        (["traceroute", "10.0.0.1", "--frob"], "unrecognized arguments: --frob"),
        (["transfer", "peer", "10.0.0.1"], "invalid choice: 'peer'"),
        (["transfer", "server", "192.0.2.1"], "Cannot assign requested address"),
        (["ping", "--netns", "no-such-namespace", "10.0.0.1"], "network namespace 'no-such-namespace' does not exist"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(arguments[0] + ": ")
    assert said in done.stderr


def test_server_tells_in_json_where_it_listens_and_what_went_wrong() -> None:
    done = run("transfer", "server", "127.0.0.1", "--port", "0", "--timeout", "0.01", "--json")
    where = json.loads(done.stdout)
    assert where["address"] == "127.0.0.1"
    assert where["port"] > 0
    assert done.returncode == 2
    assert done.stderr == "transfer: no client came to 127.0.0.1 port 0 within 0 s\n"
