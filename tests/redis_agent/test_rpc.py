"""The gRPC server and client that all services use: keys, health, reflection, TLS, and errors that come back as ours."""

import asyncio
import socket
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr

from redis_agent.errors import AgentError, ConfigurationError, NotFound, Permanent, Refused, Unreachable
from redis_agent.fleet import GrpcSection, GrpcTls
from redis_agent.rpc.channel import abort, answer, channel, metadata
from redis_agent.rpc.server import Server
from redis_agent.v1 import collector_service_pb2 as pb
from redis_agent.v1 import collector_service_pb2_grpc as pb_grpc
from simulator.ports import free_ports

NAME = "redis_agent.v1.CollectorService"
KEY = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"


class Servicer(pb_grpc.CollectorServiceServicer):
    """Answers, or ends the call with an error of ours."""

    def __init__(self, fault: AgentError | None = None) -> None:
        self._fault = fault

    async def ListTargets(self, request: pb.ListTargetsRequest, context: object) -> pb.ListTargetsResponse:
        if self._fault is not None:
            await abort(context, self._fault)  # type: ignore[arg-type]
        return pb.ListTargetsResponse(vantage="witness")


def serving(section: GrpcSection, check: Callable[[Server], Awaitable[None]], fault: AgentError | None = None) -> None:
    async def whole() -> None:
        server = Server(section, [NAME])
        pb_grpc.add_CollectorServiceServicer_to_server(Servicer(fault), server.grpc)  # type: ignore[abstract]
        await server.start(section.port("collector"))
        await server.ready()
        try:
            await check(server)
        finally:
            await server.stop(0.1)

    asyncio.run(whole())


def section_of(key: str | None = None, tls: GrpcTls | None = None, host: str = "127.0.0.1") -> GrpcSection:
    (port,) = free_ports(1)
    return GrpcSection(host=host, ports={"collector": port}, api_key=SecretStr(key) if key else None, tls=tls)


async def asked(section: GrpcSection, key: tuple[tuple[str, str], ...]) -> str:
    async with channel(section, "collector") as opened:
        stub: pb_grpc.CollectorServiceAsyncStub = pb_grpc.CollectorServiceStub(opened)
        reply = await answer(stub.ListTargets(pb.ListTargetsRequest(), timeout=10, metadata=key))
        return reply.vantage


async def listed(section: GrpcSection, key: tuple[tuple[str, str], ...]) -> set[str]:
    async with channel(section, "collector") as opened:
        stub = reflection_pb2_grpc.ServerReflectionStub(opened)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        replies = [reply async for reply in stub.ServerReflectionInfo(iter([request]), timeout=10, metadata=key)]
        return {service.name for service in replies[0].list_services_response.service}


# --- keys ---------------------------------------------------------------------------------------------------------


def test_the_right_key_opens() -> None:
    section = section_of(KEY)

    async def check(_: Server) -> None:
        assert await asked(section, metadata(section)) == "witness"

    serving(section, check)


@pytest.mark.parametrize(
    "key", [(), (("api-key", "wrong"),), (("api-key", ""),), (("api-key", KEY[:-1]),), (("key", KEY),)]
)
def test_without_the_key_or_with_another_a_call_is_unauthenticated(key: tuple[tuple[str, str], ...]) -> None:
    section = section_of(KEY)

    async def check(_: Server) -> None:
        with pytest.raises(Permanent, match="UNAUTHENTICATED: no or wrong api-key in the call's metadata"):
            await asked(section, key)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await listed(section, key)  # a stream, too
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED

    serving(section, check)


def test_without_a_configured_key_nobody_is_asked_for_one() -> None:
    section = section_of()

    async def check(_: Server) -> None:
        assert metadata(section) == ()
        assert await asked(section, ()) == "witness"

    serving(section, check)


# --- health and reflection ----------------------------------------------------------------------------------------


def test_health_is_open_and_tells_waiting_from_ready_from_leaving() -> None:
    section = section_of(KEY)

    async def whole() -> None:
        server = Server(section, [NAME])
        await server.start(section.port("collector"))
        async with channel(section, "collector") as opened:
            stub = health_pb2_grpc.HealthStub(opened)

            async def status(service: str) -> str:
                found = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
                return str(health_pb2.HealthCheckResponse.ServingStatus.Name(found.status))

            assert [await status(""), await status(NAME)] == ["NOT_SERVING", "NOT_SERVING"]
            await server.ready()
            assert [await status(""), await status(NAME)] == ["SERVING", "SERVING"]
            await server.leaving()
            assert [await status(""), await status(NAME)] == ["NOT_SERVING", "NOT_SERVING"]
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await status("redis_agent.v1.NoSuchService")
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        await server.stop(0.1)

    asyncio.run(whole())


def test_reflection_lists_every_service() -> None:
    section = section_of(KEY)

    async def check(_: Server) -> None:
        assert await listed(section, metadata(section)) == {
            NAME,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }

    serving(section, check)


# --- addresses ----------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    section = section_of()
    port = section.port("collector")

    async def whole() -> None:
        with pytest.raises(ConfigurationError) as failed:
            await Server(section, [NAME]).start(port)
        right = "stop its owner or choose another with grpc.ports (and grpc.host)"
        assert failed.value.faults == (f"grpc.ports: 127.0.0.1:{port}: Address already in use; {right}",)

    with socket.create_server(("127.0.0.1", port)):
        asyncio.run(whole())


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_ours_is_named_too(host: str) -> None:
    async def whole() -> None:
        with pytest.raises(ConfigurationError, match=rf"grpc\.ports: {host}:50051: "):
            await Server(GrpcSection(host=host), [NAME]).start(50051)

    asyncio.run(whole())


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
def test_it_listens_on_ipv6() -> None:
    section = section_of(host="::1")
    assert section.address("collector") == f"[::1]:{section.port('collector')}"

    async def check(_: Server) -> None:
        assert await asked(section, ()) == "witness"

    serving(section, check)


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [NotFound("no site a/b in this fleet"), Refused(["paused: why not", "cooling down"]), Permanent("no")],
    ids=lambda fault: type(fault).__name__,
)
def test_an_error_of_ours_crosses_and_is_the_same_error(fault: AgentError) -> None:
    section = section_of()

    async def check(_: Server) -> None:
        with pytest.raises(type(fault)) as raised:
            await asked(section, ())
        assert str(fault) in str(raised.value)
        if isinstance(fault, Refused):
            assert isinstance(raised.value, Refused) and raised.value.reasons == fault.reasons

    serving(section, check, fault)


def test_nobody_there_is_unreachable() -> None:
    async def whole() -> None:
        with pytest.raises(Unreachable, match="Connection refused"):
            await asked(section_of(), ())

    asyncio.run(whole())


# --- TLS ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, by openssl."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def found(self) -> "Authority":
        self.directory.mkdir()
        self._openssl("req", "-x509", *_EC, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
        return self

    def issue(self, name: str) -> GrpcTls:
        """A certificate of 127.0.0.1, for a server and a client; `client_ca_file` isn't set."""
        extensions = self.directory / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n")
        self._openssl("req", *_EC, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions", "-days", "2")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.pem")
        return GrpcTls(
            cert_file=self.directory / f"{name}.pem",
            key_file=self.directory / f"{name}.key",
            ca_file=self.certificate,
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours").found()


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs").found()


def with_tls(section: GrpcSection, tls: GrpcTls | None) -> GrpcSection:
    return section.model_copy(update={"tls": tls})


def test_tls_reaches_who_shows_a_certificate_of_our_authority(ours: Authority) -> None:
    section = section_of(tls=ours.issue("controller"))

    async def check(_: Server) -> None:
        assert await asked(section, ()) == "witness"
        assert await asked(with_tls(section, ours.issue("cli")), ()) == "witness"

    serving(section, check)


def test_tls_does_not_trust_a_certificate_of_another_authority(ours: Authority, theirs: Authority) -> None:
    section = section_of(tls=theirs.issue("controller"))
    trusting_ours = GrpcTls(
        cert_file=ours.issue("cli").cert_file, key_file=ours.directory / "cli.key", ca_file=ours.certificate
    )

    async def check(_: Server) -> None:
        with pytest.raises(Unreachable):
            await asked(with_tls(section, trusting_ours), ())
        with pytest.raises(Unreachable):
            await asked(with_tls(section, None), ())  # nor does anybody get in without TLS

    serving(section, check)


def mutual(own: GrpcTls, ca: Path) -> GrpcTls:
    return own.model_copy(update={"client_ca_file": ca})


def test_mtls_lets_in_who_shows_a_certificate_of_our_authority_and_nobody_else(
    ours: Authority, theirs: Authority
) -> None:
    section = section_of(tls=mutual(ours.issue("controller"), ours.certificate))
    stranger = theirs.issue("stranger").model_copy(update={"ca_file": ours.certificate})

    async def check(_: Server) -> None:
        friend = mutual(ours.issue("cli"), ours.certificate)
        assert await asked(with_tls(section, friend), ()) == "witness"
        with pytest.raises(Unreachable):
            await asked(with_tls(section, stranger), ())
        bare = grpc.ssl_channel_credentials(ours.certificate.read_bytes())
        async with grpc.aio.secure_channel(section.address("collector"), bare) as opened:
            stub: pb_grpc.CollectorServiceAsyncStub = pb_grpc.CollectorServiceStub(opened)
            with pytest.raises(Unreachable):
                await answer(stub.ListTargets(pb.ListTargetsRequest(), timeout=10))

    serving(section, check)


def test_a_certificate_that_is_none_is_told(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    section = section_of(tls=GrpcTls(cert_file=nonsense, key_file=nonsense))

    async def whole() -> None:
        with pytest.raises(ConfigurationError, match=r"check that grpc\.tls holds a certificate and its key in PEM"):
            await Server(section, [NAME]).start(section.port("collector"))

    asyncio.run(whole())
