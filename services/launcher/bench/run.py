"""What came of offering a load to a router. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    """Frames and times of a load."""

    sent: int
    received: int
    seconds: float
    machine_s: float
    """CPU of the whole machine while it lasted."""
    router_s: float = 0.0
    """CPU of hopwire's processes; 0 if it was not hopwire that forwarded."""

    @property
    def offered(self) -> float:
        """The offered load, in frames a second (RFC 2285 section 3.5.2)."""
        return self.sent / self.seconds

    @property
    def forwarded(self) -> float:
        """The forwarding rate, in frames a second (RFC 2285 section 3.6.1)."""
        return self.received / self.seconds

    @property
    def lost(self) -> int:
        """Frames that were sent and not received."""
        return max(0, self.sent - self.received)

    def cpu_us(self, alone: "Run") -> float:
        """Return the µs of CPU that a forwarded frame costs beyond those of sending and receiving it without a router.

        :param alone: the same traffic without a router.
        """
        return (self.machine_s - self.sent * alone.machine_s / alone.sent) / self.received * 1e6
