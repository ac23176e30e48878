"""One persistent connection to one Redis, on which PING and INFO are asked.

The two commands go out in one write and come back in one read: one wake-up of our loop a poll. Nothing is sent that adds
to the target's error counters (no HELLO, no CLIENT SETINFO; an INFO that was refused is not asked again for a while);
after any failure the connection is thrown away.
"""

import asyncio
import errno
import ipaddress
import socket
import ssl
from dataclasses import dataclass

from collector.core.verdict import Answer, Failing, Failure
from collector.edges.replies import Replies, Reply

_PING = b"*1\r\n$4\r\nPING\r\n"
_INFO = b"*1\r\n$4\r\nINFO\r\n"
_INFO_AGAIN_SECONDS = 60.0
# What our own machine or network says; EPERM and EACCES are a firewall of ours.
_NO_ROUTE = {
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EADDRNOTAVAIL,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.EPERM,
    errno.EACCES,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a site answers and how to log in."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Connection:
    """Asks one endpoint, keeping the connection between polls."""

    def __init__(self, endpoint: Endpoint, timeout_seconds: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout_seconds
        self._replies: Replies | None = None
        self._one_at_a_time = asyncio.Lock()
        self._info_again_at = 0.0
        self._info_error = ""

    async def poll(self, *, with_info: bool = True) -> Answer | Failure:
        """PING, and INFO where wanted, within the timeout, connecting first where needed.

        Never raises for what the target does.
        """
        async with self._one_at_a_time:
            deadline = asyncio.get_running_loop().time() + self._timeout
            try:
                addresses = [] if self._is_connected() else await self._addresses(deadline)
                async with asyncio.timeout_at(deadline):
                    refusal = await self._connect(addresses) if addresses else None
                    return refusal or await self._ask(with_info)
            except TimeoutError as fault:
                return self._answered_in_part() or self._failure(fault)
            except (OSError, ValueError) as fault:
                self.close()
                return self._failure(fault)

    def _is_connected(self) -> bool:
        return self._replies is not None and self._replies.usable

    async def _addresses(self, deadline: float) -> list[str]:
        """Numeric addresses of the host. A resolver that doesn't answer is our trouble, so it is a fault of the name."""
        host = self.endpoint.host
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                found = await loop.getaddrinfo(host, self.endpoint.port, type=socket.SOCK_STREAM)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "the name was not resolved in time") from None
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def _connect(self, addresses: list[str]) -> Answer | None:
        """Connect to the first address that lets us, and log in; the server's refusal if it refuses."""
        self.close()
        endpoint = self.endpoint
        hostname = endpoint.host if endpoint.tls is not None else None
        faults: list[OSError] = []
        for address in addresses:
            try:
                _, self._replies = await asyncio.get_running_loop().create_connection(
                    Replies, address, endpoint.port, ssl=endpoint.tls, server_hostname=hostname
                )
            except OSError as fault:
                faults.append(fault)
            else:
                return await self._log_in(self._replies)
        # What an address's owner says tells more than what our own network says of another address.
        raise next((fault for fault in faults if fault.errno not in _NO_ROUTE), faults[0])

    async def _log_in(self, replies: Replies) -> Answer | None:
        endpoint = self.endpoint
        if endpoint.password is None:
            return None
        words = ["AUTH", *([endpoint.username] if endpoint.username else []), endpoint.password]
        await replies.ask(_command(words), 1)
        reply = replies.taken()[0]
        if reply[0] != b"-":
            return None
        self.close()
        return Answer(_text(reply), is_error=True, round_trip=replies.round_trip, info=None)

    async def _ask(self, info_wanted: bool) -> Answer:
        if self._replies is None:
            raise ConnectionResetError("connection closed by the server")
        replies, started = self._replies, asyncio.get_running_loop().time()
        with_info = info_wanted and started >= self._info_again_at
        await replies.ask(_PING + _INFO if with_info else _PING, 1 + with_info)
        ping, *rest = replies.taken()
        info = rest[0] if rest else (b"-", b"the connection was closed before it")
        if with_info:
            self._remember(ping, info, started)
        text = info[1] if with_info and info[0] == b"$" else None
        return Answer(_text(ping), ping[0] == b"-", replies.round_trip, text, self._info_error)

    def _remember(self, ping: Reply, info: Reply, now: float) -> None:
        # A target that refuses INFO counts each time we ask as an error of its own: ask rarely.
        self._info_error = "" if info[0] == b"$" else _text(info)
        if ping[0] != b"-" and info[0] == b"-" and self._is_connected():
            self._info_again_at = now + _INFO_AGAIN_SECONDS

    def _answered_in_part(self) -> Answer | None:
        """The answer to PING if it came in time and only INFO didn't. The connection goes: INFO may yet come."""
        replies, self._replies = self._replies, None
        if replies is None:
            return None
        found = replies.taken()
        if replies.transport is not None:
            replies.transport.abort()
        if not found or found[0] == (b"+", b"OK"):
            return None
        late = f"no reply within {self._timeout:.2f} s"
        return Answer(_text(found[0]), found[0][0] == b"-", replies.round_trip, None, late)

    def _failure(self, fault: Exception) -> Failure:
        where = str(self.endpoint)
        match fault:
            case TimeoutError():
                return Failure(Failing.TIMEOUT, f"no answer from {where} within {self._timeout:.2f} s")
            case ConnectionRefusedError():
                return Failure(Failing.REFUSED, f"{where} refused the connection")
            case ssl.SSLError():
                return Failure(Failing.TLS, f"TLS with {where}: {fault.reason or fault}")
            case socket.gaierror():
                return Failure(Failing.NAME, f"{self.endpoint.host}: {fault.strerror}")
            case ValueError():
                return Failure(Failing.PROTOCOL, f"{where}: {fault}")
            case OSError() if fault.errno in _NO_ROUTE:
                return Failure(Failing.NO_ROUTE, f"{where}: {fault.strerror}")
            case _:
                return Failure(Failing.RESET, f"{where}: {fault}")

    def close(self) -> None:
        """Throw the connection away. Safe twice."""
        if self._replies is not None and self._replies.transport is not None:
            self._replies.transport.abort()
        self._replies = None


def _command(words: list[str]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        raw = word.encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(raw), raw))
    return b"".join(parts)


def _text(reply: Reply) -> str:
    return reply[1].decode("utf-8", "replace")
