"""The one exception whose text is meant for the person at the keyboard."""


class HopwireError(Exception):
    """Something the user can mend. The text is one line: what is wrong, where, and what to do.

    Every entry point prints it as `PROGRAM: TEXT` on stderr and exits with a non-zero status.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
