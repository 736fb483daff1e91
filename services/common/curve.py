"""Keys of CurveZMQ (rfc.zeromq.org/spec/26) in files of the form that czmq and zmq.auth read (ZPL, spec/4)."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import zmq

from services.common.errors import HopwireError

ZAP_DOMAIN: Final = "hopwire"
"""Without a domain ZeroMQ would not ask its authenticator (rfc.zeromq.org/spec/27)."""
_KEY: Final = r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"
_LINE: Final = re.compile(rf'^\s*(public|secret)-key\s*=\s*"({_KEY})"\s*$', re.MULTILINE)
_FILE: Final = """# {what} of a hopwire router or client (control-cli keygen).
metadata
curve
    public-key = "{public}"
"""


@dataclass(frozen=True)
class KeyPair:
    """A public key and its secret one, in Z85."""

    public: bytes
    secret: bytes

    def protect_server(self, socket: "zmq.Socket[Any]") -> None:
        """Have a socket that is to be bound take none but CURVE connections, each judged by the authenticator."""
        socket.curve_server = True
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret
        socket.zap_domain = ZAP_DOMAIN.encode()

    def protect_client(self, socket: "zmq.Socket[Any]", server_key: bytes) -> None:
        """Have a socket that is to be connected speak with the owner of a key, and prove who it is."""
        socket.curve_serverkey = server_key
        socket.curve_publickey = self.public
        socket.curve_secretkey = self.secret


def generate(path: Path) -> KeyPair:
    """Make a pair of keys: `path` has both and is its owner's alone, `path.pub` has the public one.

    :raises HopwireError: one of the files is there already, or cannot be written.
    """
    public, secret = zmq.curve_keypair()
    open_part = _FILE.format(what="The public key", public=public.decode())
    whole = _FILE.format(what="The SECRET key", public=public.decode())
    whole += f'    secret-key = "{secret.decode()}"\n'
    _write_new(path, whole, 0o600)
    try:
        _write_new(path.with_name(f"{path.name}.pub"), open_part, 0o644)
    except HopwireError:
        path.unlink()
        raise
    return KeyPair(public, secret)


def load_pair(path: Path) -> KeyPair:
    """Return the keys in a file.

    :raises HopwireError: it cannot be read, lacks a key, or is open to others.
    """
    found = _keys(path)
    if len(found) < 2:
        raise HopwireError(f"{path}: no pair of keys; make one with: control-cli keygen FILE")
    if path.stat().st_mode & 0o077:
        raise HopwireError(f"{path}: this secret key is open to others; run: chmod 600 {path}")
    return KeyPair(found["public"], found["secret"])


def public_key(text: str) -> bytes:
    """Return a public key that is given as its 40 characters, or as the file that has it.

    :raises HopwireError: it is neither.
    """
    if re.fullmatch(_KEY, text):
        return text.encode()
    found = _keys(Path(text))
    if "public" not in found:
        raise HopwireError(f"{text}: no public key; give its 40 characters, or the .pub file of control-cli keygen")
    return found["public"]


def _keys(path: Path) -> dict[str, bytes]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise HopwireError(f"key file {path}: {reason}; make one with: control-cli keygen FILE") from error
    return {kind: key.encode() for kind, key in _LINE.findall(text)}


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
    except OSError as error:
        raise HopwireError(f"cannot write {path}: {error.strerror}; name another file") from error
