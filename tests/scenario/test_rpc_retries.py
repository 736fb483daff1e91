"""A client and a server of RPC between which messages are lost, repeated, and come late: nothing is done twice.

The network is a list, the client one that asks again as docs/bus.md says; hypothesis plays the accidents.
"""

from typing import Any

import zmq
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.bus import RpcRefusedError, RpcServer
from services.common.messages import RpcError, RpcReply, RpcRequest, decode, encode


class ListSocket:
    """As much of a ROUTER as the server uses."""

    def __init__(self, network: "Network") -> None:
        self._network = network

    def set_hwm(self, _value: int) -> None: ...

    def set(self, _option: int, _value: Any) -> None: ...

    def bind(self, _endpoint: str) -> None: ...

    def close(self) -> None: ...

    def get(self, option: int) -> int:
        assert option == zmq.EVENTS
        return zmq.POLLIN if self._network.arrived else 0

    def recv_multipart(self, _flags: int) -> list[bytes]:
        return self._network.arrived.pop(0)

    def send_multipart(self, parts: list[bytes], _flags: int) -> None:
        self._network.replies.append(parts[1])


class Network:
    """Stands in for a ZeroMQ context."""

    def __init__(self) -> None:
        self.requests: list[list[bytes]] = []
        self.arrived: list[list[bytes]] = []
        self.replies: list[bytes] = []

    def as_context(self) -> Any:
        return self

    def socket(self, _kind: int) -> ListSocket:
        return ListSocket(self)


class Accidents(RuleBasedStateMachine):
    """A counter that the client has incremented, or refuses to go over ten."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.server = RpcServer(self.network.as_context(), "rpc", self._answer)
        self.done: dict[int, int] = {}
        self.connection = 0
        self.next_id = 0
        self.waiting: int | None = None
        self.answers: dict[int, RpcReply] = {}

    def _answer(self, method: str, params: dict[str, Any]) -> Any:
        assert method == "increment"
        number = params["number"]
        self.done[number] = self.done.get(number, 0) + 1
        if number % 3 == 0:
            raise RpcRefusedError(RpcError(code="refused", message=f"no {number}"))
        return number

    def _send(self) -> None:
        assert self.waiting is not None
        request = RpcRequest(id=self.waiting, method="increment", params={"number": self.waiting}, client="counter")
        self.network.requests.append([b"\0%d" % self.connection, encode(request)])

    @precondition(lambda self: self.waiting is None)
    @rule()
    def ask(self) -> None:
        self.next_id += 1
        self.waiting = self.next_id
        self._send()

    @precondition(lambda self: self.waiting is not None)
    @rule(reconnects=st.booleans())
    def ask_again(self, reconnects: bool) -> None:
        self.connection += reconnects
        self._send()

    @precondition(lambda self: self.network.requests)
    @rule(data=st.data(), fate=st.sampled_from(["arrives", "arrives twice", "is lost"]))
    def a_request(self, data: st.DataObject, fate: str) -> None:
        request = self.network.requests.pop(data.draw(st.integers(0, len(self.network.requests) - 1)))
        self.network.arrived += [request] * ["is lost", "arrives", "arrives twice"].index(fate)

    @rule()
    def serve(self) -> None:
        assert self.server.serve() == 0

    @precondition(lambda self: self.network.replies)
    @rule(data=st.data(), is_lost=st.booleans())
    def a_reply(self, data: st.DataObject, is_lost: bool) -> None:
        reply = decode(self.network.replies.pop(data.draw(st.integers(0, len(self.network.replies) - 1))))
        if not is_lost:
            assert self.answers.setdefault(reply.id, reply) == reply, "another answer to the same question"
            self.waiting = None if reply.id == self.waiting else self.waiting

    @invariant()
    def nothing_is_done_twice(self) -> None:
        assert set(self.done.values()) <= {1}
        for number, reply in self.answers.items():
            assert (reply.result, reply.error is None) == ((None, False) if number % 3 == 0 else (number, True))

    def teardown(self) -> None:
        """In the end one more question is enough."""
        if self.waiting is not None:
            self.network.requests.clear()
            self._send()
            self.network.arrived += self.network.requests
            assert self.server.serve() == 0
            assert self.waiting in {decode(reply).id for reply in self.network.replies}
        assert self.done == dict.fromkeys(range(1, self.next_id + 1), 1)


TestAccidents = Accidents.TestCase
TestAccidents.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
