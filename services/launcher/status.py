"""What control says about the router as a whole (its RPC `status`)."""

from typing import Any

import zmq
from pydantic import BaseModel, ValidationError

from services.common.bus import RpcClient, RpcRefusedError
from services.common.endpoints import Endpoints


class InterfaceStatus(BaseModel):
    """An interface of the router."""

    name: str
    addresses: list[str]
    forwarding: bool


class ServiceStatus(BaseModel):
    """One service, as control has last heard of it."""

    service: str
    instance: str
    pid: int
    up: bool
    ready: bool


class RouterStatus(BaseModel):
    """The state of a router."""

    ready: bool
    waiting_for: list[str]
    warnings: list[str]
    routes: int
    """Destinations in the kernel's main table."""
    interfaces: list[InterfaceStatus]
    services: list[ServiceStatus]


def ask_status(context: zmq.Context[Any], endpoints: Endpoints, timeout_s: float) -> RouterStatus | None:
    """Return the state of the router on a run directory, or None when control does not answer in time."""
    client = RpcClient(context, endpoints.control_rpc)
    try:
        return RouterStatus.model_validate(client.call("status", timeout_s=timeout_s))
    except (RpcRefusedError, ValidationError):
        return None
    finally:
        client.close()
