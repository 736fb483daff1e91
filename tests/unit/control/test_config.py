"""The configuration file: what is right has its effect, what is wrong is named with its place."""

from pathlib import Path

import pytest

from services.common.errors import HopwireError
from services.common.parameters import InterfacePolicy
from services.control.config import Config, listen_address, load, overridden, parse


def problem(text: str) -> str:
    with pytest.raises(HopwireError) as caught:
        parse(text, "r.yaml")
    assert "\n" not in caught.value.message
    return caught.value.message


def test_defaults() -> None:
    assert parse("", "r.yaml") == Config()
    assert parse("# nothing yet\n", "r.yaml") == Config()
    assert Config().metrics_listen == "127.0.0.1:9100"
    assert Config().parameters.arp.retransmit_time_s == 1.0


def test_a_whole_file() -> None:
    config = parse(
        """
log_level: warning
metrics_listen: "[::1]:9200"
parameters:
  arp:
    retransmit_time_s: 2
    max_neighbours: 4096
    permanent_neighbours:
      - {interface: eth0, address: 10.0.0.9, mac: "02:00:00:00:00:09"}
  icmp:
    errors_per_second: 5
""",
        "r.yaml",
    )
    assert (config.log_level, config.metrics_listen) == ("warning", "[::1]:9200")
    assert config.parameters.arp.retransmit_time_s == 2.0
    assert config.parameters.arp.max_neighbours == 4096
    assert config.parameters.arp.delay_probe_time_s == 5.0
    assert [one.interface for one in config.parameters.arp.permanent_neighbours] == ["eth0"]
    assert config.parameters.icmp.errors_per_second == 5


def test_the_policy_of_interfaces() -> None:
    config = parse(
        """
interfaces:
  eth0: {reverse_path: strict, proxy_arp: on}
  "*": {martians: linux, redirects: false}
  eth1: {redirects: true}
  eth2: {reverse_path: off}
""",
        "r.yaml",
    )
    shared = InterfacePolicy(martians="linux", redirects=False)
    assert config.interfaces == {
        "eth0": shared.model_copy(update={"reverse_path": "strict", "proxy_arp": True}),
        "*": shared,
        "eth1": InterfacePolicy(martians="linux", redirects=True),
        "eth2": shared,  # `off` is how YAML writes false
    }
    assert overridden(config, log_level="debug", metrics_listen=None).interfaces == config.interfaces


@pytest.mark.parametrize("text", ["metrics_listen: off", "metrics_listen: 'off'", "metrics_listen: no"])
def test_metrics_off_however_yaml_reads_it(text: str) -> None:
    assert parse(text, "r.yaml").metrics_listen == "off"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "parameters:\n  arp:\n    retransmit_time_s: 2\n    base_reachable_tim_s: 3\n",
            "r.yaml:4:5: unknown key 'parameters.arp.base_reachable_tim_s'; did you mean 'base_reachable_time_s'?",
        ),
        ("loglevel: info", "r.yaml:1:1: unknown key 'loglevel'; did you mean 'log_level'?"),
        (
            "interfaces:\n  eth0:\n    reverse_pat: loose\n",
            "r.yaml:3:5: unknown key 'interfaces.eth0.reverse_pat'; did you mean 'reverse_path'?",
        ),
        (
            "interfaces:\n  eth0: {martians: some}\n",
            "r.yaml:2:20: interfaces.eth0.martians: 'some' should be 'strict' or 'linux'",
        ),
        (
            "interfaces:\n  a-name-of-16-byt: {}\n",
            "r.yaml:2:3: interfaces: 'a-name-of-16-byt' is no interface's name: it has 1 to 15 bytes",
        ),
        ("interfaces: [eth0]", "r.yaml:1:13: interfaces: a list should be a block of keys and values"),
        ("interfaces:\n  eth0:\n", "r.yaml:2:8: interfaces.eth0: '' should be a block of keys and values"),
        (
            "zzz: 1",
            (
                "r.yaml:1:1: unknown key 'zzz'; there are: log_level, metrics_listen, interfaces, links, addresses, "
                "routes, rpc, parameters, nat"
            ),
        ),
        (
            "parameters: {arp: {permanent_neighbours: [{interface: e, address: 1.2.3.4, mca: 3}]}}",
            "r.yaml:1:76: unknown key 'parameters.arp.permanent_neighbours.0.mca'; did you mean 'mac'?",
        ),
        (
            "parameters: {arp: {permanent_neighbours: [{interface: e, mac: 02:00:00:00:00:01}]}}",
            "r.yaml:1:43: parameters.arp.permanent_neighbours.0.address is missing",
        ),
        (
            "parameters:\n  arp:\n    max_neighbours: 1.5",
            "r.yaml:3:21: parameters.arp.max_neighbours: '1.5' should be a valid integer",
        ),
        (
            "parameters:\n  arp:\n    retransmit_time_s: yes",
            "r.yaml:3:24: parameters.arp.retransmit_time_s: 'yes' should be a valid number",
        ),
        (
            "parameters: {arp: {retransmit_time_s: '1'}}",
            "r.yaml:1:39: parameters.arp.retransmit_time_s: '1' should be a valid number",
        ),
        (
            "parameters:\n  icmp:\n    errors_burst: 0",
            "r.yaml:3:19: parameters.icmp.errors_burst: '0' should be greater than or equal to 1",
        ),
        (
            "routes:\n  - {dst: 10.0.0.0/8, vai: 10.0.0.1}",
            "r.yaml:2:23: unknown key 'routes.0.vai'; did you mean 'via'?",
        ),
        (
            "routes:\n  - dst: 10.0.0.0/8\n    nexthops: [{via: 10.0.0.1, wieght: 2}]",
            "r.yaml:3:32: unknown key 'routes.0.nexthops.0.wieght'; did you mean 'weight'?",
        ),
        (
            "routes:\n  - {dst: 10.0.0.1/8, via: 10.0.0.1}",
            "r.yaml:2:11: routes.0.dst: '10.0.0.1/8' has host bits set; the prefix is 10.0.0.0/8",
        ),
        (
            "routes: [{dst: 10.0.0.0/8}]",
            (
                "r.yaml:1:10: routes.0: a route needs via, dev or nexthops, unless it is a blackhole, unreachable or "
                "prohibit"
            ),
        ),
        (
            "routes: [{dst: 10.0.0.0/8, via: 10.0.0.1, onlink: true}]",
            "r.yaml:1:10: routes.0: onlink needs dev: it is what tells where the gateway is",
        ),
        (
            "routes:\n- {dst: default, dev: a}\n- {dst: 0.0.0.0/0, dev: b, metric: 0}",
            (
                "r.yaml:2:1: routes: 0.0.0.0/0 metric 0 is there twice, as routes.0 and routes.1; for several ways "
                "write nexthops"
            ),
        ),
        ("links: {eth0: {mtu: 67}}", "r.yaml:1:21: links.eth0.mtu: '67' should be greater than or equal to 68"),
        ("links: {eth0: {upp: true}}", "r.yaml:1:16: unknown key 'links.eth0.upp'; did you mean 'up'?"),
        (
            "addresses: {eth0: [10.0.0.999]}",
            "r.yaml:1:20: addresses.eth0.0: '10.0.0.999' is not an address such as 10.0.0.1/24",
        ),
        (
            "addresses: {eth0: [10.0.0.1/24, 10.0.0.1/24]}",
            "r.yaml:1:12: addresses: 10.0.0.1/24 of eth0 is there twice; remove one of them",
        ),
        ("addresses: {a: [224.0.0.1/4]}", "r.yaml:1:12: addresses: 224.0.0.1/4 of a is no host's address"),
        ("rpc: {lisn: x}", "r.yaml:1:7: unknown key 'rpc.lisn'; did you mean 'listen'?"),
        (
            "rpc: {listen: tcp://1.2.3.4, key_file: /k, clients: [a]}",
            (
                "r.yaml:1:15: rpc.listen: 'tcp://1.2.3.4' is not an endpoint such as tcp://192.0.2.1:7010, or "
                "tcp://*:7010 for all addresses"
            ),
        ),
        (
            "rpc: {listen: 'tcp://*:1', key_file: k, clients: [a]}",
            "r.yaml:1:38: rpc.key_file: 'k' is not a file's path from the root: /etc/hopwire/control.key",
        ),
        (
            "rpc: {listen: 'tcp://*:1', key_file: /k, clients: [a]}",
            "r.yaml:1:52: rpc.clients.0: 'a' is not a public key: the 40 characters that control-cli keygen shows",
        ),
        ("parameters: 3", "r.yaml:1:13: parameters: '3' should be a block of keys and values"),
        ("log_level: loud", "r.yaml:1:12: log_level: 'loud' should be 'debug', 'info', 'warning' or 'error'"),
        (
            "metrics_listen: localhost:9100",
            "r.yaml:1:17: metrics_listen: 'localhost:9100' is not ADDRESS:PORT such as 127.0.0.1:9100, or off",
        ),
        ("log_level: info\nlog_level: debug", "r.yaml:2:1: 'log_level' is there already; remove one of them"),
        ("- log_level", "r.yaml:1:1: expected keys and values, one `key: value` a line"),
        ("1: 2", "r.yaml:1:1: a key must be a word"),
        ("? [a]\n: 1", "r.yaml:1:3: a key must be a word"),
        ("a: &a [1]\nb: *a", "r.yaml:1:4: an anchor that is used again; write it out"),
        ("log_level: [info", "r.yaml:1:17: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("\tlog_level: info", "r.yaml:1:1: not YAML: found character '\\t' that cannot start any token"),
        ("a: " + "[" * 5000, "r.yaml: nested too deeply; is it the right file?"),
    ],
)
def test_what_is_wrong_and_where(text: str, message: str) -> None:
    assert problem(text) == message


def test_nothing_in_a_file_is_ever_carried_out() -> None:
    assert problem("log_level: !!python/object/apply:os.getcwd []").startswith("r.yaml:1:12: not YAML: could not")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.yaml", "No such file or directory; name another with --config"),
        (tmp_path, "Is a directory; name another with --config"),
    ):
        with pytest.raises(HopwireError) as caught:
            load(path)
        assert caught.value.message == f"configuration {path}: {reason}"
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"log_level: \xff\xfe")
    with pytest.raises(HopwireError, match=r"not UTF-8 text \(byte 11\)"):
        load(binary)
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(HopwireError, match="larger than 1048576 bytes"):
        load(large)


def test_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("log_level: debug\n", encoding="utf-8")
    assert load(path).log_level == "debug"


def test_flags_win_over_the_file() -> None:
    config = parse("log_level: error\nmetrics_listen: 127.0.0.1:1\nparameters: {icmp: {errors_burst: 9}}", "r.yaml")
    assert overridden(config, log_level=None, metrics_listen=None) == config
    changed = overridden(config, log_level="debug", metrics_listen="off")
    assert (changed.log_level, changed.metrics_listen) == ("debug", "off")
    assert changed.parameters == config.parameters


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"log_level": "loud"}, "--log-level: 'loud' should be 'debug', 'info', 'warning' or 'error'"),
        (
            {"metrics_listen": "9100"},
            "--metrics-listen: '9100' is not ADDRESS:PORT such as 127.0.0.1:9100, or off",
        ),
    ],
)
def test_wrong_flags(flags: dict[str, str], message: str) -> None:
    with pytest.raises(HopwireError) as caught:
        overridden(Config(), **({"log_level": None, "metrics_listen": None} | flags))
    assert caught.value.message == message


@pytest.mark.parametrize(
    "text", ["", ":", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "::1:80", "1.2.3.4:٣"]
)
def test_what_is_no_listen_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        listen_address(text)


def test_listen_addresses() -> None:
    assert listen_address("0.0.0.0:9100") == ("0.0.0.0", 9100)
    assert listen_address("[::1]:65535") == ("::1", 65_535)
