"""What the forwarder answers about its translator: the methods `nat.*` of its RPC, in docs/bus.md."""

from typing import Any, Final

from services.common.bus import RpcRefusedError
from services.common.messages import RpcError
from services.forwarder.nat.table import Translator

MOST_SESSIONS: Final = 1000
"""Of one answer; the next ones are asked for by `first`."""


def answer(translator: Translator, method: str, params: dict[str, Any], now: float) -> Any:
    """Return the result of a method.

    :raises RpcRefusedError: with the codes of docs/bus.md.
    """
    if method == "nat.status":
        return translator.status()
    if method == "nat.flush":
        return {"sessions": translator.flush(now)}
    if method != "nat.sessions":
        message = f"the forwarder has no method {method}; there are: nat.status, nat.sessions, nat.flush"
        raise RpcRefusedError(RpcError(code="unknown-method", message=message))
    first = params.get("first", 0)
    if not isinstance(first, int) or isinstance(first, bool) or first < 0:
        raise RpcRefusedError(RpcError(code="usage", message="first must be the `next` of an answer before, or 0"))
    sessions, following = translator.sessions(now, first, MOST_SESSIONS)
    return {"sessions": sessions, "next": following}
