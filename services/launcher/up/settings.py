"""The command line of `hopwire up`."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What `hopwire up` was told; None where it was told nothing."""

    namespace: str | None = None
    run_dir: Path | None = None
    config: Path | None = None
    log_level: str | None = None
    metrics_listen: str | None = None
    log_format: str | None = None
