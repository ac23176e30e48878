"""A mail server that keeps what it was given: real SMTP on our own event loop."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import cast

from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_MESSAGE_BYTES = 10 * 1024**2


@dataclass(frozen=True, slots=True)
class Mail:
    """One accepted message: when (monotonic seconds), the envelope, and the message as parsed.

    Lines of its text end with a plain newline, as they did before they went over the wire."""

    at: float
    mail_from: str
    rcpt_tos: tuple[str, ...]
    message: EmailMessage


class MailBox:
    """Accepts mail for anyone on host:port, unencrypted and without login. `mails` is what was accepted, oldest first.

    `stall_greeting = True` makes it accept new connections and say nothing. Recipients in `refused_recipients` get 550.
    `attempts` counts the messages that were sent to the end, whatever the answer.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.port = port
        self.mails: list[Mail] = []
        self.attempts = 0
        self.stall_greeting = False
        self.refused_recipients: set[str] = set()
        self._refusals_left = 0
        self._server: asyncio.Server | None = None
        self._connections = _Connections()

    async def start(self) -> None:
        """Raises OSError if the address can't be bound."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._greet, self.host, self.port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Closes the port and cuts every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._connections.cut_all()

    def refuse_next(self, n: int = 1) -> None:
        """Answers the next `n` messages with 451 at their end: try again later."""
        self._refusals_left += n

    def _greet(self) -> asyncio.Protocol:
        if self.stall_greeting:
            return _Silence(self._connections)
        return _Conversation(_Judge(self._is_refused, self._deliver), self._connections)

    def _is_refused(self, recipient: str) -> bool:
        return recipient in self.refused_recipients

    def _deliver(self, envelope: Envelope) -> str:
        """The answer to a message, in SMTP's words."""
        self.attempts += 1
        if self._refusals_left:
            self._refusals_left -= 1
            return "451 4.3.2 Not accepting messages now, try again later"
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        message = message_from_bytes(content.replace(b"\r\n", b"\n"), _class=EmailMessage, policy=policy.default)
        self.mails.append(Mail(time.monotonic(), envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
        return "250 2.0.0 Message accepted"


class _Judge:
    """aiosmtpd's hooks: it finds them by these names."""

    def __init__(self, is_refused: Callable[[str], bool], deliver: Callable[[Envelope], str]) -> None:
        self._is_refused = is_refused
        self._deliver = deliver

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._is_refused(address):
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient accepted"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        return self._deliver(envelope)


class _Conversation(SMTP):
    """One SMTP session that is in `connections` for as long as it lasts."""

    def __init__(self, judge: _Judge, connections: "_Connections") -> None:
        super().__init__(
            judge,
            data_size_limit=MAX_MESSAGE_BYTES,
            enable_SMTPUTF8=True,
            hostname="mail.simulator.test",
            loop=asyncio.get_running_loop(),
        )
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self, transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._connections.remove(self)


class _Silence(asyncio.Protocol):
    """A connection on which nothing is ever said."""

    def __init__(self, connections: "_Connections") -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connections.add(self, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._connections.remove(self)


class _Connections:
    """The connections that are open now, so that they can be cut."""

    def __init__(self) -> None:
        self._open: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()

    def add(self, protocol: asyncio.BaseProtocol, transport: asyncio.BaseTransport) -> None:
        self._open[protocol] = cast("asyncio.Transport", transport)
        self._none_left.clear()

    def remove(self, protocol: asyncio.BaseProtocol) -> None:
        del self._open[protocol]
        if not self._open:
            self._none_left.set()

    async def cut_all(self) -> None:
        for transport in self._open.values():
            transport.abort()
        await self._none_left.wait()
