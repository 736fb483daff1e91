"""When to start a service again that has died, and how long it may take to end."""

from typing import Final

FIRST_RESTART_S: Final = 0.0
"""A process that has lived well starts again at once."""
SECOND_RESTART_S: Final = 0.1
"""Then this pause, which doubles with each further death."""
LONGEST_RESTART_S: Final = 5.0
GOOD_LIFE_S: Final = 10.0
"""Who has lived so long begins with `FIRST_RESTART_S` again."""
TERMINATE_LIMIT_S: Final = 5.0
"""From SIGTERM to SIGKILL."""


def restart_pause_s(deaths: int) -> float:
    """Return the pause after a death that `deaths` others came before, each after less than `GOOD_LIFE_S`."""
    return min(SECOND_RESTART_S * 2.0 ** min(deaths - 1, 32), LONGEST_RESTART_S) if deaths else FIRST_RESTART_S
