"""The verbs of control-cli that read or write a file of the user's."""

from pathlib import Path
from typing import Any

from services.common.errors import HopwireError
from services.control.cli.config_verbs import APPLY, CHECK, DIFF, SAVE
from services.control.cli.grammar import Request
from services.control.cli.vocabulary import KEYGEN


def with_contents(request: Request) -> Request:
    """Return the request as control takes it: with the text of the file that it names.

    :raises HopwireError: the file cannot be read, or is no configuration.
    """
    if request.method == SAVE:
        return Request(SAVE, {} if "file" in request.params else {"write": True})
    if request.method not in (APPLY, DIFF):
        return request
    params = dict(request.params)
    path = Path(params.pop("file"))
    return Request(request.method, {"text": _checked(path), "source": str(path), **params})


def without_router(request: Request) -> Any:
    """Do what needs no router, and return what is to be shown; None where a router is needed.

    :raises HopwireError: the file is wrong, or cannot be read or written.
    """
    if request.method == CHECK:
        _checked(Path(request.params["file"]))
        return {}
    if request.method == KEYGEN:
        from services.common.curve import generate  # noqa: PLC0415 - only who asks pays for it

        path = Path(request.params["file"])
        return {"file": str(path), "public_key": generate(path).public.decode()}
    return None


def save(path: Path, text: str) -> None:
    """Write a configuration to a file as a whole; to what is no plain file, such as /dev/stdout, as it is.

    :raises HopwireError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        new.replace(path)
    except OSError as error:
        raise HopwireError(f"cannot write {path}: {error.strerror}; name another file") from error


def _checked(path: Path) -> str:
    from services.control.config import parse, read  # noqa: PLC0415 - only who asks pays for it

    text = read(path)
    parse(text, str(path))
    return text
