"""Where control's own configuration comes from: its file, and the flags or environment that win over it."""

import time
from dataclasses import dataclass
from pathlib import Path

from services.common.logs import AUTO
from services.control.config import Config, overridden, parse, read
from services.control.configuration.record import Version


@dataclass(frozen=True)
class Origin:
    """What control was started with."""

    path: Path | None = None
    """The configuration file; None for the defaults."""
    log_level: str | None = None
    metrics_listen: str | None = None
    log_format: str = AUTO

    def read(self) -> Version:
        """Return the file as it is now.

        :raises HopwireError: it cannot be read.
        """
        if self.path is None:
            return Version()
        return Version(text=read(self.path), source=str(self.path), at=time.time())

    def config(self, version: Version) -> Config:
        """Return what a configuration comes to with the flags.

        :raises HopwireError: it says what is not known or not allowed, or a flag does.
        """
        return overridden(
            parse(version.text, version.source), log_level=self.log_level, metrics_listen=self.metrics_listen
        )
