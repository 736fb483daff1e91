"""The answers that an RPC server has given, so that a question that comes again is not carried out again. Pure."""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final, NamedTuple

import msgpack

from services.common.messages import RpcRequest

MAX_REPLIES: Final = 1024
MAX_REPLY_BYTES: Final = 65_536
"""Longer ones are not kept: only what shows something is as long, and may be asked for again."""
MAX_KEPT_BYTES: Final = 4 * 2**20
_DIGEST_BYTES: Final = 16

Asker = tuple[bytes, int]
"""Who asked, and the question's id."""


class _Kept(NamedTuple):
    question: bytes
    reply: bytes


class ReusedIdError(Exception):
    """An id that its client has used for another question."""


class ReplyMemory:
    """The last replies: at most `MAX_REPLIES`, and `MAX_KEPT_BYTES` in all, the oldest forgotten first."""

    def __init__(self, max_replies: int = MAX_REPLIES, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._kept: OrderedDict[Asker, _Kept] = OrderedDict()
        self._max_replies = max_replies
        self._max_bytes = max_bytes
        self._bytes = 0

    def find(self, peer: bytes, request: RpcRequest) -> bytes | None:
        """Return the reply that this question has had already, or None.

        :param peer: the connection, which stands for a client that gives itself no name.
        :raises ReusedIdError: its id belongs to another question.
        """
        kept = self._kept.get(_asker(peer, request))
        if kept is None:
            return None
        if kept.question != _digest(request):
            raise ReusedIdError
        return kept.reply

    def keep(self, peer: bytes, request: RpcRequest, reply: bytes) -> None:
        """Remember a reply."""
        if len(reply) > MAX_REPLY_BYTES:
            return
        before = self._kept.pop(_asker(peer, request), None)
        self._kept[_asker(peer, request)] = _Kept(_digest(request), reply)
        self._bytes += len(reply) - (len(before.reply) if before is not None else 0)
        while len(self._kept) > self._max_replies or self._bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.reply)


def _asker(peer: bytes, request: RpcRequest) -> Asker:
    # a ROUTER's names of connections begin with a zero byte, which no client's own name has
    return (request.client.encode() or b"\0" + peer), request.id


def _digest(request: RpcRequest) -> bytes:
    packed = msgpack.packb([request.method, request.params])
    return blake2b(packed, digest_size=_DIGEST_BYTES).digest()
