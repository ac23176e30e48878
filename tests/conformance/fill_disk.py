"""Fills the small file system that holds a log, then makes space: `fill_disk.py DIRECTORY`, run by the conformance tests.

Says the fault that the log told, which records it holds at the end, and which it acknowledged.
"""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from redis_agent.errors import LogUnavailable
from redis_agent.log import Outgoing, Writer
from redis_agent.log.embedded import EmbeddedLog
from redis_agent.testing import contents
from redis_agent.topics import Topic, TopicName

TOPIC = Topic(TopicName("test.full"), 1, timedelta(days=1), "test")
FILLER_BYTES = 200_000
RECORD_BYTES = 5000


async def written(log: EmbeddedLog) -> Writer:
    await log.prepare([TOPIC])
    return await log.writer()


async def main(directory: Path) -> None:
    filler, path = directory / "filler", directory / "log.db"
    filler.write_bytes(bytes(FILLER_BYTES))
    acknowledged: list[str] = []

    async def fill(writer: Writer) -> None:
        while True:
            name = str(len(acknowledged))
            await writer.append([Outgoing(TOPIC, name, os.urandom(RECORD_BYTES))])
            acknowledged.append(name)

    log = EmbeddedLog(path, patience_seconds=1.0)
    try:
        await fill(await written(log))
    except LogUnavailable as fault:
        print(fault)
    filler.unlink()
    await (await written(log)).append([Outgoing(TOPIC, "last", b"there is space again")])
    acknowledged.append("last")
    print([record.key for record in await contents(log, TOPIC)])
    print(acknowledged)
    await log.close()


asyncio.run(main(Path(sys.argv[1])))
