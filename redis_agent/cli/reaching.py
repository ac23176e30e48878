"""Reaching a running service: its stub, the key to send, and what to do when nobody answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from redis_agent.errors import Unreachable
from redis_agent.fleet import Fleet
from redis_agent.rpc.channel import channel, metadata
from redis_agent.v1 import alert_service_pb2_grpc, failover_service_pb2_grpc

Key = tuple[tuple[str, str], ...]


@asynccontextmanager
async def controller(fleet: Fleet) -> "AsyncIterator[tuple[failover_service_pb2_grpc.FailoverServiceAsyncStub, Key]]":
    """The controller's stub and the key to send. Raises Unreachable with what to do."""
    async with _reached(fleet, "controller") as opened:
        stub: failover_service_pb2_grpc.FailoverServiceAsyncStub = failover_service_pb2_grpc.FailoverServiceStub(opened)
        yield stub, metadata(fleet.grpc)


@asynccontextmanager
async def notifier(fleet: Fleet) -> "AsyncIterator[tuple[alert_service_pb2_grpc.AlertServiceAsyncStub, Key]]":
    """The notifier's, likewise."""
    async with _reached(fleet, "notifier") as opened:
        stub: alert_service_pb2_grpc.AlertServiceAsyncStub = alert_service_pb2_grpc.AlertServiceStub(opened)
        yield stub, metadata(fleet.grpc)


@asynccontextmanager
async def _reached(fleet: Fleet, service: str) -> AsyncIterator[grpc.aio.Channel]:
    opened = channel(fleet.grpc, service)
    try:
        yield opened
    except Unreachable as fault:
        why = str(fault).rsplit(": ", 1)[-1]
        told = f"the {service} at {fleet.grpc.address(service)} does not answer: {why}"
        raise Unreachable(f"{told}; if it isn't running, start it: redis-agent up --config FILE") from fault
    finally:
        await opened.close()
