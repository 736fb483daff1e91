"""A question that comes again is found, another one is not, and the memory has a bound."""

from typing import Any

import pytest

from services.common.messages import RpcRequest
from services.common.replies import MAX_REPLY_BYTES, ReplyMemory, ReusedIdError

PEER, OTHER_PEER = b"\0peer", b"\0other"


def question(number: int = 1, client: str = "", method: str = "route.add", **params: Any) -> RpcRequest:
    return RpcRequest(id=number, method=method, params=params, client=client)


def test_the_same_question_of_the_same_connection() -> None:
    memory = ReplyMemory()
    assert memory.find(PEER, question(dst="10.0.0.0/8")) is None
    memory.keep(PEER, question(dst="10.0.0.0/8"), b"done")
    assert memory.find(PEER, question(dst="10.0.0.0/8")) == b"done"
    assert memory.find(OTHER_PEER, question(dst="10.0.0.0/8")) is None
    assert memory.find(PEER, question(2, dst="10.0.0.0/8")) is None


def test_a_client_with_a_name_is_known_on_every_connection() -> None:
    memory = ReplyMemory()
    memory.keep(PEER, question(client="me"), b"done")
    assert memory.find(OTHER_PEER, question(client="me")) == b"done"
    assert memory.find(PEER, question(client="you")) is None
    assert memory.find(PEER, question()) is None
    memory.keep(PEER, question(client="peer"), b"of a client of the connection's name")
    assert memory.find(PEER, question(client="")) is None


def test_a_deadline_makes_no_other_question() -> None:
    memory = ReplyMemory()
    memory.keep(PEER, question(client="me"), b"done")
    assert memory.find(PEER, question(client="me").model_copy(update={"deadline": 1.0})) == b"done"


@pytest.mark.parametrize("other", [question(dst="10.0.0.0/8"), question(method="route.del")])
def test_an_id_of_another_question_is_an_error(other: RpcRequest) -> None:
    memory = ReplyMemory()
    memory.keep(PEER, question(dst="10.1.0.0/16"), b"done")
    with pytest.raises(ReusedIdError):
        memory.find(PEER, other)


def test_the_oldest_is_forgotten_and_what_is_long_is_not_kept() -> None:
    memory = ReplyMemory(max_replies=2)
    for number in (1, 2, 3):
        memory.keep(PEER, question(number), b"%d" % number)
    assert [memory.find(PEER, question(number)) for number in (1, 2, 3)] == [None, b"2", b"3"]
    memory.keep(PEER, question(4), bytes(MAX_REPLY_BYTES + 1))  # nor does it push out another one
    assert [memory.find(PEER, question(number)) for number in (2, 3, 4)] == [b"2", b"3", None]


def test_all_of_them_together_have_a_bound_in_bytes() -> None:
    memory = ReplyMemory(max_bytes=100)
    for number in range(1, 6):
        memory.keep(PEER, question(number), bytes(40))
        memory.keep(PEER, question(number), bytes(50))
    found = [number for number in range(1, 6) if memory.find(PEER, question(number)) is not None]
    assert found == [4, 5]
