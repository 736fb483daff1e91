"""`hopwire bench --nat`: what address translation costs, and what the kernel's masquerade does in the same run."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

import zmq
from rich.console import Console
from rich.table import Table

from services.common.bus import RpcClient, RpcRefusedError
from services.common.endpoints import Endpoints
from services.common.errors import HopwireError
from services.launcher.bench import deliver, rig
from services.launcher.bench.options import Output
from services.launcher.bench.traffic import Traffic, offer
from services.launcher.lab.lab import Lab
from services.launcher.lab.signals import Stopped, stop_signals
from services.launcher.lab.topologies import PAIR

_PREFIX: Final = "hw-nat-"
_HOPWIRE_NAT: Final = "hopwire+NAT"
_KERNEL_NAT: Final = "kernel+masquerade"
MODES: Final = (rig.HOPWIRE, _HOPWIRE_NAT, rig.KERNEL, _KERNEL_NAT)
_ROWS: Final = {
    "new": ("60-byte frames, each to a new destination, k/s", 1e3),
    "packets_60": ("60-byte frames, k/s", 1e3),
    "packets_1514": ("1514-byte frames, k/s", 1e3),
    "tcp": ("TCP host1 -> host2, Gbit/s", 1.0),
}
_NEW_S: Final = 0.1
"""So short that the generator does not come round to its first destination again."""
_LIMIT_S: Final = 20.0
_MEASURE: Final = "services.forwarder.nat.measure"
"""Run, not imported: the launcher is no part of the forwarder."""
_MASQUERADE: Final = (
    ("add", "table", "ip", "bench"),
    ("add", "chain", "ip", "bench", "leaving", "{ type nat hook postrouting priority 100; }"),
    ("add", "rule", "ip", "bench", "leaving", "oifname", "eth1", "masquerade"),
)

Samples = Mapping[str, Sequence[Mapping[str, float]]]
"""By mode: one mapping a round, from a row's name to its value."""


def run_nat(*, seconds: float, rounds: int, output: Output) -> int:
    """Measure each way of forwarding in turn, `rounds` times; print the medians, and return the exit status.

    :param seconds: of each measurement of a rate or a stream.
    :raises HopwireError: not root, the lab cannot be built, there is no nft, or the result cannot be written.
    """
    if os.geteuid() != 0:
        raise HopwireError("making network namespaces needs root; run: sudo hopwire bench --nat")
    deliver.check(output)
    progress = Console(stderr=True, highlight=False)
    samples: dict[str, list[Mapping[str, float]]] = {mode: [] for mode in MODES}
    try:
        with stop_signals(), Lab(PAIR, prefix=_PREFIX) as lab:
            rig.prepare(lab)
            for number in range(1, rounds + 1):
                for mode, values in samples.items():
                    progress.print(f"round {number} of {rounds}: {mode}")
                    with _mode(lab, mode):
                        values.append(_sample(lab, seconds))
            progress.print("a table of a million sessions")
            sessions: Mapping[str, float] = rig.python(lab, "router", _MEASURE)
    except Stopped as stop:
        return stop.exit_status
    document = {"seconds": seconds, "samples": samples, "ratios": ratios(samples), "sessions": sessions}
    deliver.deliver(document, [table(samples), sentence(sessions)], output)
    return 0


def ratios(samples: Samples) -> dict[str, dict[str, float]]:
    """Return hopwire's medians with translation as multiples of those of the others, by mode and row."""
    middle = {mode: {row: median(one[row] for one in values) for row in _ROWS} for mode, values in samples.items()}
    own = middle[_HOPWIRE_NAT]
    return {mode: {row: own[row] / middle[mode][row] for row in _ROWS} for mode in MODES if mode != _HOPWIRE_NAT}


def table(samples: Samples) -> Table:
    """Return the table for people."""
    result = Table("")
    for mode in MODES:
        result.add_column(mode, justify="right")
    against = ratios(samples)
    for mode in against:
        result.add_column(f"{_HOPWIRE_NAT} / {mode}", justify="right")
    for row, (title, divisor) in _ROWS.items():
        cells = [f"{median(one[row] for one in samples[mode]) / divisor:,.1f}" for mode in MODES]
        result.add_row(title, *cells, *(f"{values[row]:.2f}" for values in against.values()))
    return result


def sentence(sessions: Mapping[str, float]) -> str:
    """Return what was measured of a full table of sessions, for people."""
    return (
        f"{sessions['sessions']:,.0f} sessions take {sessions['run_directory_mb']:.0f} MB in the run directory and "
        f"{sessions['memory_mb']:.0f} MB of memory. While all of them ended, the longest of {sessions['pauses']:,.0f} "
        f"pauses took {sessions['longest_pause_ms']:.2f} ms of CPU, the median {sessions['median_pause_ms']:.2f} ms."
    )


def _sample(lab: Lab, seconds: float) -> Mapping[str, float]:
    rig.resolve_neighbours(lab)
    return {
        "new": offer(lab, Traffic(), _NEW_S).forwarded,
        "packets_60": offer(lab, Traffic(), seconds).forwarded,
        "packets_1514": offer(lab, Traffic(frame_bytes=1514), seconds).forwarded,
        "tcp": rig.tcp_rate(lab, "host1", "host2", seconds),
    }


@contextmanager
def _mode(lab: Lab, name: str) -> Iterator[None]:
    """Let the router forward in the way of that name, until the end of the block."""
    with rig.mode(lab, rig.HOPWIRE if name in (rig.HOPWIRE, _HOPWIRE_NAT) else rig.KERNEL):
        if name == _HOPWIRE_NAT:
            _ask(lab, "nat.add", {"masquerade": "eth1"})
            _wait(lab, in_use=True)
        elif name == _KERNEL_NAT:
            for words in _MASQUERADE:
                _nft(lab, *words)
        try:
            yield
        finally:
            if name == _HOPWIRE_NAT:
                _ask(lab, "nat.del", {"masquerade": "eth1"})
                _wait(lab, in_use=False)
            elif name == _KERNEL_NAT:
                _nft(lab, "delete", "table", "ip", "bench")


def _nft(lab: Lab, *words: str) -> None:
    try:
        done = lab.run("router", ["nft", *words], limit_s=_LIMIT_S)
    except FileNotFoundError as error:
        raise HopwireError("the kernel's masquerade is set up with nft; run: apt-get install nftables") from error
    if done.returncode != 0:
        raise HopwireError(f"nft {' '.join(words)} failed: {done.stderr.strip()}")


def _ask(lab: Lab, method: str, params: dict[str, Any]) -> Any:
    with zmq.Context() as context:
        client = RpcClient(context, Endpoints(lab.run_directory("router")).control_rpc)
        try:
            return client.call(method, params, _LIMIT_S)
        except RpcRefusedError as refused:
            raise HopwireError(f"{method}: {refused.error.message}") from refused
        finally:
            client.close()


def _wait(lab: Lab, *, in_use: bool) -> None:
    """Wait until the forwarder translates, or does not."""
    deadline = time.monotonic() + _LIMIT_S
    while bool(_ask(lab, "nat.show", {})["table"]["in_use"]) is not in_use:
        if time.monotonic() > deadline:
            raise HopwireError(f"the forwarder did not take over the rules within {_LIMIT_S:.0f} s")
        time.sleep(0.05)
