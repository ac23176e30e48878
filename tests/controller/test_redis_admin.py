"""Fencing, promotion and the canary, on real Redis servers."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from controller.core.failover import Effect, Outcome
from controller.edges import redis_admin
from controller.edges.access import Access
from simulator.ports import free_ports
from simulator.redis_server import RedisServer
from tests.controller.stage import access, client, replicated

Check = Callable[[RedisServer, RedisServer], Awaitable[None]]
NO = Outcome(Effect.IMPOSSIBLE, "somebody objects")


def with_pair(directory: Path, check: Check) -> None:
    """A primary and its replica."""

    async def run() -> None:
        async with asyncio.timeout(60), replicated(directory) as (primary, replica):
            await check(primary, replica)

    asyncio.run(run())


def with_one(directory: Path, check: Callable[[RedisServer], Awaitable[None]], **extra: str) -> None:
    async def run() -> None:
        server = RedisServer(directory, "127.0.0.1", 0, extra={k.replace("_", "-"): v for k, v in extra.items()})
        await server.start()
        try:
            await check(server)
        finally:
            await server.stop()

    asyncio.run(run())


async def option(server: RedisServer) -> str:
    async with client(server) as one:
        return str((await one.config_get("min-replicas-to-write"))["min-replicas-to-write"])


async def role(server: RedisServer) -> str:
    async with client(server) as one:
        return str((await one.info("replication"))["role"])


# --- the fence


def test_a_fenced_site_refuses_writes_and_loses_nothing(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        async with client(server) as one:
            await one.set("before", "1")
            outcome = await redis_admin.fence(access(server))
            assert outcome.effect is Effect.SEEN
            assert "NOREPLICAS" in outcome.detail
            with pytest.raises(ResponseError, match="NOREPLICAS"):
                await one.set("after", "1")
            assert await one.get("before") == b"1"

    with_one(tmp_path, check)


def test_a_site_with_replicas_is_fenced_too(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        assert (await redis_admin.fence(access(primary))).effect is Effect.SEEN

    with_pair(tmp_path, check)


@pytest.mark.parametrize("before", ["0", "1", "7"])
def test_lifting_the_fence_puts_back_what_was_there_whoever_lifts_it(tmp_path: Path, before: str) -> None:
    async def check(server: RedisServer) -> None:
        for _ in range(2):  # fencing twice, as after a crash, forgets nothing
            await redis_admin.fence(access(server))
        assert await redis_admin.is_fenced(access(server))
        for _ in range(2):
            assert (await redis_admin.unfence(access(server))).effect is Effect.SEEN
        assert await option(server) == before
        assert not await redis_admin.is_fenced(access(server))

    with_one(tmp_path, check, min_replicas_to_write=before)


def test_a_replica_refuses_writes_as_it_is(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        outcome = await redis_admin.fence(access(replica))
        assert outcome.effect is Effect.SEEN
        assert "it is a replica" in outcome.detail

    with_pair(tmp_path, check)


def test_a_fence_that_does_not_hold_is_not_believed(tmp_path: Path) -> None:
    """With no bound on a replica's lag Redis counts none and takes writes, whatever CONFIG SET answered."""

    async def check(server: RedisServer) -> None:
        outcome = await redis_admin.fence(access(server))
        assert outcome.effect is Effect.NOT_YET
        assert "still takes writes" in outcome.detail

    with_one(tmp_path, check, min_replicas_max_lag="0")


def test_without_the_password_nothing_is_seen(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        outcome = await redis_admin.fence(access(server))
        assert outcome.effect is Effect.NOT_YET
        assert "uthentication" in outcome.detail or "NOAUTH" in outcome.detail
        assert (await redis_admin.fence(replace(access(server), password="secret"))).effect is Effect.SEEN

    with_one(tmp_path, check, requirepass="secret")


# --- promotion


def test_a_replica_is_promoted_and_takes_writes(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        assert (await redis_admin.promote(access(replica), None)).effect is Effect.SEEN
        assert await role(replica) == "master"
        assert (await redis_admin.write(access(replica), "canary")).effect is Effect.SEEN

    with_pair(tmp_path, check)


def test_promoting_a_primary_changes_nothing(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        assert (await redis_admin.promote(access(primary), None)).effect is Effect.SEEN
        assert await role(replica) == "slave"

    with_pair(tmp_path, check)


def test_a_site_that_was_fenced_in_an_earlier_failover_takes_writes_once_it_is_promoted(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        await redis_admin.fence(access(replica))
        assert (await redis_admin.promote(access(replica), None)).effect is Effect.SEEN
        assert (await redis_admin.write(access(replica), "canary")).effect is Effect.SEEN
        assert await option(replica) == "0"

    with_pair(tmp_path, check)


def test_an_objection_holds_a_replica_and_comes_too_late_for_a_primary(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        assert await redis_admin.promote(access(replica), None, NO) == NO
        assert await role(replica) == "slave"
        assert (await redis_admin.promote(access(primary), None, NO)).effect is Effect.SEEN

    with_pair(tmp_path, check)


def test_a_planned_promotion_waits_until_the_replica_has_everything(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        replica.freeze()
        async with client(primary) as one:
            for number in range(500):
                await one.set(f"key:{number}", "x" * 1000)
        await redis_admin.fence(access(primary))
        replica.thaw()
        assert (await redis_admin.promote(access(replica), access(primary))).effect is Effect.SEEN
        async with client(replica) as one:
            assert await one.dbsize() == 500

    with_pair(tmp_path, check)


def test_a_planned_promotion_of_somebody_elses_replica_is_impossible(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        async def other(stranger: RedisServer) -> None:
            outcome = await redis_admin.promote(access(replica), access(stranger))
            assert outcome.effect is Effect.IMPOSSIBLE
            assert await role(replica) == "slave"

        stranger = RedisServer(tmp_path / "stranger", "127.0.0.3", 0)
        await stranger.start()
        try:
            await other(stranger)
        finally:
            await stranger.stop()

    with_pair(tmp_path, check)


def test_a_planned_promotion_needs_the_source(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        primary.freeze()
        outcome = await redis_admin.promote(access(replica), access(primary))
        assert outcome.effect is Effect.NOT_YET
        assert await role(replica) == "slave"

    with_pair(tmp_path, check)


# --- what doesn't answer


@pytest.mark.parametrize("action", ["fence", "unfence", "promote", "write"])
def test_a_server_that_stands_still_is_not_yet_and_soon(tmp_path: Path, action: str) -> None:
    """The port still accepts. About a second; the bound is wide for a busy machine."""

    async def check(server: RedisServer) -> None:
        server.freeze()
        began = time.monotonic()
        outcome = await ACTIONS[action](access(server))
        assert outcome.effect is Effect.NOT_YET
        assert time.monotonic() - began < 5

    with_one(tmp_path, check)


@pytest.mark.parametrize("action", ["fence", "unfence", "promote", "write"])
def test_a_server_that_is_gone_is_not_yet(action: str) -> None:
    outcome = asyncio.run(ACTIONS[action](Access("127.0.0.1", free_ports(1)[0])))
    assert outcome.effect is Effect.NOT_YET


ACTIONS: dict[str, Callable[[Access], Coroutine[None, None, Outcome]]] = {
    "fence": redis_admin.fence,
    "unfence": redis_admin.unfence,
    "promote": lambda site: redis_admin.promote(site, None),
    "write": lambda site: redis_admin.write(site, "canary"),
}


# --- the canary


def test_the_canary_is_written_read_back_and_expires(tmp_path: Path) -> None:
    async def check(server: RedisServer) -> None:
        assert (await redis_admin.write(access(server), "canary")).effect is Effect.SEEN
        async with client(server) as one:
            assert 0 < await one.ttl("canary") <= 60

    with_one(tmp_path, check)


def test_a_site_that_refuses_the_canary_is_not_yet(tmp_path: Path) -> None:
    async def check(primary: RedisServer, replica: RedisServer) -> None:
        assert (await redis_admin.write(access(replica), "canary")).effect is Effect.NOT_YET

    with_pair(tmp_path, check)


def test_over_tls_the_address_that_the_name_gave_must_still_show_the_sites_certificate(tmp_path: Path) -> None:
    files = certificate_for("redis.example.com", tmp_path)

    async def check(server: RedisServer) -> None:
        by_address = Access("127.0.0.1", tls_port, tls=True, ca_file=str(files["crt"]))
        assert (await redis_admin.write(by_address, "canary")).effect is Effect.NOT_YET
        named = replace(by_address, certificate_name="redis.example.com")
        assert (await redis_admin.write(named, "canary")).effect is Effect.SEEN
        other = replace(by_address, certificate_name="other.example.com")
        assert (await redis_admin.write(other, "canary")).effect is Effect.NOT_YET

    (tls_port,) = free_ports(1)
    with_one(
        tmp_path,
        check,
        tls_port=str(tls_port),
        tls_cert_file=str(files["crt"]),
        tls_key_file=str(files["key"]),
        tls_ca_cert_file=str(files["crt"]),
        tls_auth_clients="no",
    )


def certificate_for(name: str, directory: Path) -> dict[str, Path]:
    """A certificate that vouches for itself."""
    files = {kind: directory / f"redis.{kind}" for kind in ("crt", "key")}
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(files["key"]), "-out", str(files["crt"])),
        ],
        check=True,
        capture_output=True,
    )
    return files
