"""The probe against the server that every service runs."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from pydantic import SecretStr

from redis_agent.fleet import GrpcSection
from redis_agent.rpc.probe import main
from redis_agent.rpc.server import Server


def with_server(check: Callable[[Server, str], Awaitable[None]], section: GrpcSection) -> None:
    async def run() -> None:
        server = Server(section, ["redis_agent.v1.CollectorService"])
        port = await server.start(0)
        try:
            await check(server, f"127.0.0.1:{port}")
        finally:
            await server.stop(0.1)

    asyncio.run(run())


async def probe(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


def test_a_server_that_waits_for_its_log_is_alive_but_not_serving(capsys: pytest.CaptureFixture[str]) -> None:
    async def check(_server: Server, address: str) -> None:
        assert await probe(address) == 1
        assert await probe("--alive", address) == 0

    with_server(check, GrpcSection())
    assert capsys.readouterr().out.count("NOT_SERVING") == 2


def test_a_ready_server_is_serving_and_the_probe_needs_no_key() -> None:
    async def check(server: Server, address: str) -> None:
        await server.ready()
        assert await probe(address) == 0

    with_server(check, GrpcSection(api_key=SecretStr("0123456789abcdef")))


def test_nobody_there_is_unreachable_alive_or_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["127.0.0.1:1", "--timeout", "1"]) == 4
    assert main(["127.0.0.1:1", "--timeout", "1", "--alive"]) == 4
    assert "127.0.0.1:1: UNAVAILABLE" in capsys.readouterr().err


def test_one_that_accepts_but_never_answers_is_unreachable_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        assert main(["--alive", "--timeout", "0.5", f"127.0.0.1:{silent.getsockname()[1]}"]) == 4
        assert time.monotonic() - began < 2
