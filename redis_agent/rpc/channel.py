"""Calling another service: one channel an address, a deadline on every call, gRPC's errors as ours."""

from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

import grpc

from redis_agent.errors import AgentError, Malformed, NotFound, Permanent, Refused, Unreachable
from redis_agent.fleet import GrpcSection

R = TypeVar("R")
DEADLINE_SECONDS = 5.0
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024


def channel(section: GrpcSection, service: str) -> grpc.aio.Channel:
    """A channel to the service; connects when first used, and again after a loss."""
    options = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.enable_http_proxy", 0),
    ]
    address = section.address(service)
    if section.tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    tls = section.tls
    signer = tls.ca_file or tls.client_ca_file or tls.cert_file
    credentials = grpc.ssl_channel_credentials(
        signer.read_bytes(), tls.key_file.read_bytes(), tls.cert_file.read_bytes()
    )
    return grpc.aio.secure_channel(address, credentials, options=options)


def metadata(section: GrpcSection) -> tuple[tuple[str, str], ...]:
    """The key that the services ask for, if any."""
    key = section.reveal("api_key")
    return (("api-key", key),) if key else ()


async def answer(call: Awaitable[R]) -> R:
    """The answer, or our error: NotFound, Refused, Malformed (our question), Unreachable, Permanent."""
    try:
        return await call
    except grpc.aio.AioRpcError as fault:
        raise _ours(fault) from fault


def _ours(fault: grpc.aio.AioRpcError) -> AgentError:
    text = fault.details() or fault.code().name
    match fault.code():
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(text)
        case grpc.StatusCode.INVALID_ARGUMENT | grpc.StatusCode.OUT_OF_RANGE:
            return Malformed(text)
        case grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.ABORTED:
            return Refused(text.split("\n"))
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.DEADLINE_EXCEEDED | grpc.StatusCode.CANCELLED:
            return Unreachable(text)
        case _:
            return Permanent(f"{fault.code().name}: {text}")


async def abort(context: grpc.aio.ServicerContext[Any, Any], fault: AgentError) -> NoReturn:
    """End the call with the status that says what our error says; `answer` turns it back."""
    match fault:
        case NotFound():
            await context.abort(grpc.StatusCode.NOT_FOUND, str(fault))
        case Refused():
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "\n".join(fault.reasons))
        case Permanent():
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(fault))
        case _:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(fault))
