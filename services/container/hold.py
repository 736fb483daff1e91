"""`python -m services.container.hold`: the container whose network namespace a router's services share."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

from services.common.endpoints import DEFAULT_RUN_DIR, prepare_run_dir
from services.common.errors import HopwireError
from services.common.kernel_settings import namespace_identity
from services.container.events import Events
from services.container.health import HealthServer
from services.container.namespace import hold

_DAY_S = 86_400.0


def main() -> int:
    """Hold the namespace until SIGTERM, and return the exit status."""
    run_dir = Path(os.environ.get("HOPWIRE_RUN_DIR", DEFAULT_RUN_DIR))
    with ExitStack() as stack:
        events = Events(stack)
        try:
            stack.enter_context(hold(prepare_run_dir(run_dir).run_dir, namespace_identity()))
        except HopwireError as error:
            sys.stderr.write(f"hopwire router: {error.message}\n")
            return 1
        health = HealthServer()
        stack.callback(health.close)
        events.listen(health, lambda: health.answer("holds the network namespace", healthy=True))
        while not events.stop_asked:
            events.wait(_DAY_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
