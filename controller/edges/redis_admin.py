"""Changing a Redis server: fencing, promotion, the write that proves a move. Every action looks before it acts.

The fence is `min-replicas-to-write`: a primary that needs more replicas than anybody has refuses every write with
NOREPLICAS and loses nothing (Redis: replication, "allow writes only with N attached replicas"). What the option was
before is added to the fence's own value, so that the server itself remembers it: whoever lifts the fence, after any
crash, puts back what was there, and a value that isn't ours is left alone.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

import redis.asyncio
from redis.exceptions import ReadOnlyError, RedisError

from controller.core.failover import Effect, Outcome
from controller.edges.access import TIMEOUT_SECONDS, Access, client_of

R = TypeVar("R")
_CATCH_UP_SECONDS = 1.0  # then the pause switch is looked at before it is tried again
_OPTION = "min-replicas-to-write"
FENCE = 1_000_000
_CANARY_SECONDS = 60
_FAULTS = (RedisError, OSError)


async def fence(site: Access) -> Outcome:
    """Make the site refuse every write. SEEN only when a write was in fact refused."""
    try:
        async with client_of(site) as client:
            before = await _required_replicas(client)
            if before < FENCE:
                await _bounded(client.config_set(_OPTION, FENCE + before))
            if (taken := await _refusal(client)) is None:
                return Outcome(Effect.NOT_YET, f"{site} still takes writes")
            return Outcome(Effect.SEEN, f"{site} refuses writes: {taken}")
    except _FAULTS as fault:
        return Outcome(Effect.NOT_YET, f"{site}: {_in_words(fault)}")


async def is_fenced(site: Access) -> bool:
    """Whether our fence stands there; no when that can't be seen."""
    try:
        async with client_of(site) as client:
            return await _required_replicas(client) >= FENCE
    except _FAULTS:
        return False


async def unfence(site: Access) -> Outcome:
    """Let the site take writes again, with the option as it was before the fence."""
    try:
        async with client_of(site) as client:
            await _lift(client)
            return Outcome(Effect.SEEN, f"{site} takes writes again")
    except _FAULTS as fault:
        return Outcome(Effect.NOT_YET, f"{site}: {_in_words(fault)}")


async def promote(target: Access, source: Access | None, objection: Outcome | None = None) -> Outcome:
    """Make a replica the primary, and see that it takes writes.

    With `source` (a planned move), first wait until it has all that the source wrote. An objection is the outcome unless
    the target is primary already: then there is no way back.
    """
    try:
        async with client_of(target) as client:
            state = await _replication(client)
            if state.get("role") != "master":
                waiting = objection or (await _not_in_step(client, source) if source is not None else None)
                if waiting is not None:
                    return waiting
                await _bounded(client.replicaof("NO", "ONE"))
                # Not the reply but the role counts.
                state = await _replication(client)
            if state.get("role") != "master":
                return Outcome(Effect.NOT_YET, f"{target} calls itself {state.get('role')}")
            return Outcome(Effect.SEEN, f"{target} calls itself master{await _opened(client)}")
    except _FAULTS as fault:
        return Outcome(Effect.NOT_YET, f"{target}: {_in_words(fault)}")


async def write(target: Access, key: str) -> Outcome:
    """Write and read back a canary key that expires by itself."""
    try:
        async with client_of(target) as client:
            await _bounded(client.set(key, key, ex=_CANARY_SECONDS))
            back = await _bounded(client.get(key))
            if back != key.encode():
                return Outcome(Effect.NOT_YET, f"{target} acknowledged a write and doesn't give it back")
            return Outcome(Effect.SEEN, f"a write through the name reached {target}")
    except _FAULTS as fault:
        return Outcome(Effect.NOT_YET, f"{target}: {_in_words(fault)}")


async def _required_replicas(client: "redis.asyncio.Redis") -> int:
    found = await _bounded(client.config_get(_OPTION))
    return int(found.get(_OPTION) or 0)


async def _lift(client: "redis.asyncio.Redis") -> None:
    now = await _required_replicas(client)
    if now >= FENCE:
        await _bounded(client.config_set(_OPTION, now - FENCE))


async def _opened(client: "redis.asyncio.Redis") -> str:
    """Lift the fence of an earlier failover, where there is one; what is to be said if that can't be done.

    A server that lets nobody configure it can't have been fenced either, so that never holds a promotion up.
    """
    try:
        await _lift(client)
    except RedisError as fault:
        return f" (whether it is fenced can't be seen: {fault})"
    return ""


async def _refusal(client: "redis.asyncio.Redis") -> str | None:
    """How a write is refused; None when it is taken. Raises RedisError for an error that isn't about writing."""
    try:
        await _bounded(client.set("redis-agent:fence", "1", ex=1))
    except ReadOnlyError:
        return "it is a replica"
    except RedisError as fault:
        if "NOREPLICAS" not in str(fault):
            raise
        return str(fault)
    return None


async def _not_in_step(target: "redis.asyncio.Redis", source: Access) -> Outcome | None:
    """Why the target doesn't have all that the source, which is fenced, wrote; None when it has."""
    async with client_of(source) as primary:
        wrote = await _replication(primary)
    deadline = asyncio.get_running_loop().time() + _CATCH_UP_SECONDS
    while True:
        has = await _replication(target)
        if has.get("master_replid") != wrote.get("master_replid"):
            return Outcome(Effect.IMPOSSIBLE, f"it doesn't replicate from {source}")
        behind = int(wrote.get("master_repl_offset", 0)) - int(has.get("slave_repl_offset", 0))
        if behind <= 0:
            return None
        if asyncio.get_running_loop().time() > deadline:
            return Outcome(Effect.NOT_YET, f"it is {behind} bytes behind {source}")
        await asyncio.sleep(0.05)


async def _replication(client: "redis.asyncio.Redis") -> dict[str, Any]:
    found: dict[str, Any] = await _bounded(client.info("replication"))
    return found


async def _bounded(call: Awaitable[R]) -> R:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        return await call


def _in_words(fault: Exception) -> str:
    return str(fault) or f"no answer within {TIMEOUT_SECONDS:g} s"
