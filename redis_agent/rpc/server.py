"""A service's gRPC server: grpc.health.v1, reflection, an optional key, TLS or mTLS.

It listens from the start of the process but reports NOT_SERVING until the service has its log, so that a probe can tell
"waiting" from "dead".
"""

import hmac
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from redis_agent.errors import ConfigurationError
from redis_agent.fleet import GrpcSection

_OPEN_METHODS = ("/grpc.health.v1.Health/",)
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_STATUS = health_pb2.HealthCheckResponse


class _KeyInterceptor(grpc.aio.ServerInterceptor):
    """Lets a call in whose `api-key` metadata is right. Health stays open: probes have no key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        given = next((v for k, v in details.invocation_metadata or () if k == "api-key"), b"")
        given = given.encode() if isinstance(given, str) else given
        if details.method.startswith(_OPEN_METHODS) or hmac.compare_digest(given, self._key):
            return await continuation(details)
        return grpc.unary_unary_rpc_method_handler(_refuse)


async def _refuse(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no or wrong api-key in the call's metadata")


class Server:
    """One gRPC server. Add servicers to `grpc`, name them in `services`, then start, ready, stop."""

    def __init__(self, section: GrpcSection, services: Sequence[str]) -> None:
        key = section.reveal("api_key")
        self.grpc = grpc.aio.server(
            interceptors=[_KeyInterceptor(key)] if key else [],
            options=[
                ("grpc.so_reuseport", 0),  # a second server on the port is an error, not a silent twin
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ],
        )
        self._section = section
        self._services = ["", *services]
        self._health = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.grpc)
        reflection.enable_server_reflection([*services, "grpc.health.v1.Health", reflection.SERVICE_NAME], self.grpc)

    async def start(self, port: int) -> int:
        """Listen; NOT_SERVING. Returns the port. Raises ConfigurationError when the port is taken."""
        address = self._section.listens_on(port)
        if why_not := _cannot_listen(self._section.host, port):  # asked first: gRPC itself logs lines of its own
            raise ConfigurationError([f"grpc.ports: {address}: {why_not}"])
        try:
            bound = self._bind(address)
        except RuntimeError:
            right = "check that grpc.tls holds a certificate and its key in PEM"
            raise ConfigurationError([f"grpc.ports: gRPC can't listen on {address}: {right}"]) from None
        for service in self._services:
            await self._health.set(service, _STATUS.NOT_SERVING)
        await self.grpc.start()
        return bound

    def _bind(self, address: str) -> int:
        tls = self._section.tls
        if tls is None:
            return self.grpc.add_insecure_port(address)
        client_ca = tls.client_ca_file.read_bytes() if tls.client_ca_file else None
        credentials = grpc.ssl_server_credentials(
            [(tls.key_file.read_bytes(), tls.cert_file.read_bytes())],
            root_certificates=client_ca,
            require_client_auth=client_ca is not None,
        )
        return self.grpc.add_secure_port(address, credentials)

    async def ready(self) -> None:
        """SERVING from here on."""
        for service in self._services:
            await self._health.set(service, _STATUS.SERVING)

    async def leaving(self) -> None:
        """NOT_SERVING from here on. Safe twice."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """NOT_SERVING at once; calls in progress get the grace."""
        await self.leaving()
        await self.grpc.stop(grace_seconds)


def _cannot_listen(host: str, port: int) -> str | None:
    """Why nobody can listen there, or None."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
    except OSError as fault:
        return f"{fault.strerror}; stop its owner or choose another with grpc.ports (and grpc.host)"
    return None
