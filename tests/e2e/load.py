"""A bounded load between the hosts, and how long nothing came through."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Final

from lab import PATIENCE, ComposeLab, wait_for

_INTERVAL_S: Final = 0.05
_LONGEST_S: Final = int(120 * PATIENCE)
_RATE: Final = "20M"  # bit/s each way
_ANSWER: Final = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .* ttl=63 ", re.MULTILINE)


class Pinger:
    """A ping from host1 to host2 that goes on; `answers` are the times of what came back."""

    def __init__(self, lab: ComposeLab) -> None:
        """Start it."""
        container = lab.container("host1")
        count = int(_LONGEST_S / _INTERVAL_S)  # not -w, with which ping ends at the first ICMP error (ping(8))
        command = ["ping", "-D", "-O", "-i", str(_INTERVAL_S), "-c", str(count), "10.0.11.20"]
        created = lab.client.api.exec_create(container.id, ["stdbuf", "-oL", *command], stderr=False)
        self._stream = lab.client.api.exec_start(created["Id"], stream=True)
        self._text = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for chunk in self._stream:
            self._text += chunk.decode()

    @property
    def answers(self) -> list[float]:
        """Unix times, by host1's clock."""
        return [float(time) for time in _ANSWER.findall(self._text)]

    def wait_for_more(self, count: int = 40) -> None:
        """Wait until so many more answers have come."""
        before = len(self.answers)
        wait_for(f"{count} more answers", lambda: len(self.answers) >= before + count)

    def longest_silence(self) -> float:
        """Return the longest time between two answers, in seconds."""
        answers = self.answers
        return max(later - earlier for earlier, later in pairwise(answers))


@contextmanager
def load(lab: ComposeLab) -> Iterator[Pinger]:
    """Send UDP both ways and ping, until the end of the block."""
    host1 = lab.container("host1")
    host1.exec_run(
        ["iperf3", "--client", "10.0.11.20", "--udp", "--bidir", "--bitrate", _RATE, "--time", str(_LONGEST_S)],
        detach=True,
    )
    pinger = Pinger(lab)
    try:
        pinger.wait_for_more()
        yield pinger
    finally:
        for service in ("host1", "host2"):  # its server knows no other end of a test whose client was killed
            lab.container(service).restart(timeout=1)
        lab.wait_healthy(["host1", "host2"])
