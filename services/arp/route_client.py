"""Asking the forwarder where a route leads, without waiting for the answer."""

from collections.abc import Iterator
from typing import Any

import zmq
from pydantic import BaseModel, ValidationError

from services.arp.actions import AskRoute
from services.arp.proxy import Route
from services.common.bus import connected, receive, try_send
from services.common.messages import InterfaceIndex, MessageError, RpcReply, RpcRequest, decode, encode


class _Chosen(BaseModel):
    interface: InterfaceIndex


class _RouteAnswer(BaseModel):
    """What is needed of the forwarder's answer to `route.get`."""

    kind: str
    chosen: _Chosen | None


class RouteClient:
    """Questions out, answers in. Poll `socket`, then call `answers`."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        """Connect to the forwarder's RPC."""
        self.socket = connected(context, zmq.DEALER, endpoint)
        self.malformed = 0

    def ask(self, question: AskRoute) -> None:
        """Send a question; without a forwarder it is lost, and the request behind it stays unanswered."""
        request = RpcRequest(id=question.number, method="route.get", params={"dst": question.address})
        try_send(self.socket, [encode(request)])

    def answers(self) -> Iterator[tuple[int, Route]]:
        """Take the answers that have come: the question's number, and the route."""
        while (parts := receive(self.socket)) is not None:
            try:
                answer = _answer(parts[-1])
            except (MessageError, ValidationError):
                self.malformed += 1
                continue
            if answer is not None:
                yield answer

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


def _answer(data: bytes) -> tuple[int, Route] | None:
    """Return the number and the route of an answer; None where the forwarder refused to give one."""
    reply = decode(data)
    if not isinstance(reply, RpcReply):
        raise MessageError("not a reply")
    if reply.error is not None:
        return None
    answer = _RouteAnswer.model_validate(reply.result)
    return reply.id, Route(answer.kind, answer.chosen.interface if answer.chosen else 0)
