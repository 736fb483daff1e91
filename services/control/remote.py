"""control's RPC for other machines: TCP, encrypted, and for clients of known keys only (CurveZMQ and ZAP)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator

from services.common.bus import RpcHandler, RpcServer
from services.common.curve import ZAP_DOMAIN, KeyPair, load_pair
from services.common.errors import HopwireError
from services.common.replies import ReplyMemory
from services.control.configuration.settings import RpcSettings


class _KnownKeys:
    """Tells the authenticator who may come in."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = {key.encode() for key in keys}

    def callback(self, _domain: str, key: bytes) -> bool:
        """Tell whether a client's public key is known; called in the authenticator's thread."""
        return key in self._keys


class _Listener:
    """One open endpoint. A context of its own: once it is closed, all of it is, and its port is free."""

    def __init__(self, settings: RpcSettings, keys: KeyPair, handler: RpcHandler, replies: ReplyMemory) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._authenticator = ThreadAuthenticator(self._context)
        self._authenticator.start()
        self._authenticator.configure_curve_callback(ZAP_DOMAIN, _KnownKeys(settings.clients))
        try:
            self.server = RpcServer(self._context, settings.listen, handler, keys.protect_server, replies)
        except HopwireError:
            self._end()
            raise

    def close(self) -> None:
        self.server.close()
        self._end()

    def _end(self) -> None:
        self._authenticator.stop()
        self._context.term()


class RemoteRpc:
    """Listens as it is configured to, or not at all."""

    def __init__(self, handler: RpcHandler, watch: Callable[[Any], None], unwatch: Callable[[Any], None]) -> None:
        """Listen nowhere yet.

        :param watch: called with each socket that shall wake the service up; `unwatch` before it is closed.
        """
        self._handler = handler
        self._watch = watch
        self._unwatch = unwatch
        self._settings: RpcSettings | None = None
        self._keys: KeyPair | None = None
        self._listener: _Listener | None = None
        self._replies = ReplyMemory()  # whoever changes the endpoint by itself asks again at the new one

    def configure(self, settings: RpcSettings | None) -> None:
        """Listen as these settings say; whoever was connected connects anew.

        :raises HopwireError: the key or the endpoint cannot be used; all is as before.
        """
        keys = None if settings is None else load_pair(Path(settings.key_file))
        if (settings, keys) == (self._settings, self._keys):
            return
        former = self._settings, self._keys
        self.close()
        try:
            self._open(settings, keys)
        except HopwireError:
            self._open(*former)
            raise

    def serve(self) -> int:
        """Answer what waits; return how many messages were malformed."""
        listener = self._listener
        if listener is None:
            return 0
        try:
            return listener.server.serve()
        except zmq.ZMQError:
            if listener is self._listener:
                raise
            return 0  # what was asked for has closed the endpoint that it came by

    def close(self) -> None:
        """Listen no more."""
        if self._listener is not None:
            self._unwatch(self._listener.server.socket)
            self._listener.close()
        self._listener = self._settings = self._keys = None

    def _open(self, settings: RpcSettings | None, keys: KeyPair | None) -> None:
        if settings is not None and keys is not None:
            self._listener = _Listener(settings, keys, self._handler, self._replies)
            self._watch(self._listener.server.socket)
        self._settings, self._keys = settings, keys
