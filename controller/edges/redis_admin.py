"""Changing a Redis server: fencing, promotion, the write that proves a move. Every action looks before it acts."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from controller.core.failover import Effect, Outcome

R = TypeVar("R")
_TIMEOUT_SECONDS = 0.5
_CATCH_UP_SECONDS = 10.0
# More replicas than anybody has: a primary that needs so many refuses every write with NOREPLICAS, loses nothing,
# and can be given back by setting it to what it was. Redis: replication, "allow writes only with N attached replicas".
_FENCE = ("min-replicas-to-write", "65535")
_CANARY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach one site's server and log in."""

    host: str
    port: int
    tls: bool = False
    ca_file: str | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


async def fence(site: Access) -> Outcome:
    """Make the site refuse every write. SEEN only when a write was in fact refused."""
    try:
        async with _client(site) as client:
            await _bounded(client.config_set(*_FENCE))
            if await _refuses_writes(client):
                return Outcome(Effect.SEEN, f"{site} refuses writes")
            return Outcome(Effect.NOT_YET, f"{site} still takes writes")
    except (RedisError, OSError, TimeoutError) as fault:
        return Outcome(Effect.NOT_YET, f"{site}: {_told(fault)}")


async def unfence(site: Access) -> Outcome:
    """Let the site take writes again."""
    try:
        async with _client(site) as client:
            await _bounded(client.config_set(_FENCE[0], "0"))
            return Outcome(Effect.SEEN, f"{site} takes writes again")
    except (RedisError, OSError, TimeoutError) as fault:
        return Outcome(Effect.NOT_YET, f"{site}: {_told(fault)}")


async def promote(target: Access, source: Access | None) -> Outcome:
    """Make a replica the primary. With `source` (a planned move), first wait until it has all that the source wrote."""
    try:
        async with _client(target) as client:
            state = await _replication(client)
            if state.get("role") == "master":
                return Outcome(Effect.SEEN, f"{target} is primary")
            if source is not None and (behind := await _behind(client, source)) > 0:
                return Outcome(Effect.NOT_YET, f"{target} is {behind} bytes behind {source}")
            await _bounded(client.replicaof("NO", "ONE"))
            # Not the reply but the role counts.
            state = await _replication(client)
            effect = Effect.SEEN if state.get("role") == "master" else Effect.NOT_YET
            return Outcome(effect, f"{target} calls itself {state.get('role')}")
    except (RedisError, OSError, TimeoutError) as fault:
        return Outcome(Effect.NOT_YET, f"{target}: {_told(fault)}")


async def write(target: Access, key: str) -> Outcome:
    """Write and read back a canary key that expires by itself."""
    try:
        async with _client(target) as client:
            await _bounded(client.set(key, key, ex=_CANARY_SECONDS))
            back = await _bounded(client.get(key))
            effect = Effect.SEEN if back == key.encode() else Effect.NOT_YET
            return Outcome(effect, f"a write through the name reached {target}")
    except (RedisError, OSError, TimeoutError) as fault:
        return Outcome(Effect.NOT_YET, f"{target}: {_told(fault)}")


async def _refuses_writes(client: "redis.asyncio.Redis") -> bool:
    try:
        await _bounded(client.set("redis-agent:fence", "1", ex=1))
    except RedisError as fault:
        return "NOREPLICAS" in str(fault) or "READONLY" in str(fault)
    return False


async def _behind(target: "redis.asyncio.Redis", source: Access) -> int:
    async with _client(source) as primary:
        wrote = int((await _replication(primary)).get("master_repl_offset", 0))
    deadline = asyncio.get_running_loop().time() + _CATCH_UP_SECONDS
    while True:
        has = int((await _replication(target)).get("slave_repl_offset", 0))
        if has >= wrote or asyncio.get_running_loop().time() > deadline:
            return max(0, wrote - has)
        await asyncio.sleep(0.05)


async def _replication(client: "redis.asyncio.Redis") -> dict[str, Any]:
    found: dict[str, Any] = await _bounded(client.info("replication"))
    return found


async def _bounded(call: Awaitable[R]) -> R:
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        return await call


def _client(site: Access) -> "redis.asyncio.Redis":
    return redis.asyncio.Redis(
        host=site.host,
        port=site.port,
        username=site.username,
        password=site.password,
        ssl=site.tls,
        ssl_ca_certs=site.ca_file,
        protocol=2,
        driver_info=None,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    )


def _told(fault: Exception) -> str:
    return str(fault) or f"no answer within {_TIMEOUT_SECONDS:g} s"
