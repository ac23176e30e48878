"""A child process of the conformance tests: works on a log until it is done or dies. Told what to do by its arguments."""

import asyncio
import logging
import os
import signal
import sqlite3
import sys
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

from redis_agent.errors import AgentError
from redis_agent.log import Outgoing, Start
from redis_agent.testing import copies, log_at, read_until
from redis_agent.testing import relay as copy
from redis_agent.topics import Topic, TopicName

calls = 0


def count_calls(die_before: int) -> None:
    """Count what the log's code calls in SQLite's and librdkafka's clients; SIGKILL before that many-th call (0: never).

    Polls that follow one another count once: how many there are is a matter of time.
    """
    before = ""

    def watch(_frame: FrameType, event: str, called: Any) -> None:
        global calls
        nonlocal before
        if event != "c_call" or not is_backend(called):
            return
        if called.__name__ == before == "poll":
            return
        before = called.__name__
        calls += 1
        if calls == die_before:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)


def is_backend(called: Any) -> bool:
    owner = type(getattr(called, "__self__", None))
    return owner in (sqlite3.Connection, sqlite3.Cursor) or owner.__name__ in ("Producer", "Consumer")


def topic(name: str) -> Topic:
    return Topic(TopicName(name), 0, timedelta(days=1), "test")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def relay(address: str, group: str, name: str, source: str, sink: str, total: str, die_before: str) -> None:
    """Copies `total` records from source to sink, two at a time; says how many calls that took."""
    count_calls(int(die_before))
    log = log_at(address)
    member = await log.member(group, [topic(source)], Start.BEGINNING, name)
    copied = 0
    while copied < int(total):
        if records := await member.read(2, 0.2):
            await member.commit(copies(records, topic(sink)))
            copied += len(records)
    await log.close()
    say(str(calls))


async def relay_for_ever(address: str, group: str, name: str, source: str, sink: str) -> None:
    """Copies records one at a time until it is killed."""
    member = await log_at(address).member(group, [topic(source)], Start.BEGINNING, name)
    await copy(member, topic(sink), lambda _: False, batch=1)


async def sit(address: str, group: str, name: str, source: str, start: str) -> None:
    """Reads as a member, says what it read, and never commits."""
    member = await log_at(address).member(group, [topic(source)], Start(start), name)
    say("joined")
    while True:
        for record in await member.read(1, 0.2):
            say(record.value.decode())


async def dawdle(address: str, group: str, name: str, source: str, sink: str) -> None:
    """Reads all as a member, says how much that was, waits to be told, and commits copies; says how that went.

    When it went wrong it begins again, and says when all is done.
    """
    member = await log_at(address).member(group, [topic(source)], Start.BEGINNING, name)
    records = await read_until(member, 8)
    say(str(len(records)))
    await asyncio.to_thread(sys.stdin.readline)
    try:
        await member.commit(copies(records, topic(sink)))
    except AgentError as fault:
        say(type(fault).__name__)
        await copy(member, topic(sink), lambda copied: copied == 8)
    say("done")


async def append(address: str, name: str, to: str) -> None:
    """Appends batches of three until it is killed; says the number of each that was acknowledged."""
    writer = await log_at(address).writer(None if name == "-" else name)
    batch = 0
    while True:
        await writer.append([Outgoing(topic(to), "key", f"{batch}.{part}".encode()) for part in range(3)])
        say(str(batch))
        batch += 1


async def knock(address: str) -> None:
    """Tries everything on a log that isn't there."""
    logging.getLogger().addHandler(logging.NullHandler())
    log = log_at(address)
    opened = [log.prepare(), log.writer("name"), log.member("group", [topic("t")], Start.NOW, "m")]
    tried = asyncio.gather(*opened, log.cursor([topic("t")], Start.NOW), return_exceptions=True)
    for result in await tried:
        say(type(result).__name__)
    await log.close()


async def hold(path: str) -> None:
    """Takes the file's write lock until it is killed."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    say("held")
    await asyncio.sleep(600)


if __name__ == "__main__":
    signal.alarm(100)  # a child that hangs must not hang its test
    asyncio.run(globals()[sys.argv[1]](*sys.argv[2:]))
