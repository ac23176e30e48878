"""Client traffic as an application makes it: resolve the name, keep the answer for its TTL, write, note what came back."""

import asyncio
import itertools
import time
from dataclasses import dataclass, field

import dns.asyncquery
import dns.exception
import dns.message
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_TIMEOUT_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Ack:
    """One acknowledged write: when (monotonic seconds), by which address, and its number."""

    at: float
    address: str
    number: int


@dataclass(slots=True)
class ClientLog:
    """What the client log."""

    acks: list[Ack] = field(default_factory=list)
    errors: int = 0
    last_error: str = ""

    def acknowledged(self, address: str, after: float = 0.0) -> list[Ack]:
        """Writes that this address acknowledged after that instant."""
        return [ack for ack in self.acks if ack.address == address and ack.at > after]

    def longest_gap_seconds(self) -> float:
        """The longest time between two acknowledged writes."""
        times = [ack.at for ack in self.acks]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


class Client:
    """Writes `rate` keys a second through the name. `log` tells how it went."""

    def __init__(self, name: str, nameserver: tuple[str, int], port: int, rate: float = 50.0) -> None:
        self.log = ClientLog()
        self.address = ""
        self._name = name
        self._nameserver = nameserver
        self._port = port
        self._pause = 1.0 / rate
        self._expires = 0.0
        self._redis: redis.asyncio.Redis | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin writing."""
        self._task = asyncio.create_task(self._write())

    async def stop(self) -> None:
        """End. Safe twice."""
        if self._task is not None:
            # Once isn't enough: Python 3.11's wait_for, inside dnspython, loses a cancellation that comes with its result.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=0.1)
            self._task = None
        await self._hang_up()

    async def _write(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                async with asyncio.timeout(_TIMEOUT_SECONDS * 2):
                    client = await self._connected()
                    await client.set(f"order:{number % 1000}", number)
                self.log.acks.append(Ack(time.monotonic(), self.address, number))
            except (RedisError, OSError, TimeoutError, dns.exception.DNSException) as fault:
                self.log.errors += 1
                self.log.last_error = f"{type(fault).__name__}: {fault}".strip(": ")
                await self._hang_up()
            await asyncio.sleep(self._pause)

    async def _connected(self) -> "redis.asyncio.Redis":
        if time.monotonic() >= self._expires:
            address, ttl = await self._resolve()
            self._expires = time.monotonic() + ttl
            if address != self.address:
                await self._hang_up()
                self.address = address
        if self._redis is None:
            self._redis = redis.asyncio.Redis(
                host=self.address,
                port=self._port,
                protocol=2,
                driver_info=None,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                single_connection_client=True,
            )
        return self._redis

    async def _resolve(self) -> tuple[str, int]:
        host, port = self._nameserver
        answer = await dns.asyncquery.udp(dns.message.make_query(self._name, "A"), host, timeout=1.0, port=port)
        addresses = [(rdata.to_text(), rrset.ttl) for rrset in answer.answer if rrset.rdtype == 1 for rdata in rrset]
        if not addresses:
            raise OSError(f"{self._name} has no address")
        # A resolver keeps a chain for the shortest of its TTLs.
        return addresses[0][0], min(rrset.ttl for rrset in answer.answer)

    async def _hang_up(self) -> None:
        if self._redis is not None:
            client, self._redis = self._redis, None
            await client.aclose()
