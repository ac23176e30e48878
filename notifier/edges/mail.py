"""E-mail by SMTP. A retry carries the same Message-ID, and a group's mails one thread."""

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime

import aiosmtplib

from notifier.core.message import body, subject
from notifier.core.outbox import Attempt, Fate
from redis_agent.model import Notification


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mail is handed in, and as whom. `tls`: starttls, tls or none. Each step may take `timeout_seconds`."""

    host: str
    port: int
    tls: str
    username: str | None
    password: str | None
    timeout_seconds: float = 10.0


class Mail:
    """One list of recipients."""

    def __init__(self, server: MailServer, sender: str, to: tuple[str, ...]) -> None:
        self._server = server
        self._sender = sender
        self._to = to

    async def send(self, notification: Notification) -> Attempt:
        """One attempt. A recipient who is refused while others are taken doesn't make it fail."""
        server = self._server
        try:
            refused, told = await aiosmtplib.send(
                self._letter(notification),
                hostname=server.host,
                port=server.port,
                use_tls=server.tls == "tls",
                start_tls=server.tls == "starttls",
                username=server.username,
                password=server.password,
                timeout=server.timeout_seconds,
            )
        except aiosmtplib.SMTPResponseException as fault:
            temporary = 400 <= fault.code < 500
            return Attempt(Fate.RETRY if temporary else Fate.REJECTED, f"{fault.code} {fault.message}")
        except aiosmtplib.SMTPRecipientsRefused as fault:
            temporary = any(400 <= refusal.code < 500 for refusal in fault.recipients)
            return Attempt(
                Fate.RETRY if temporary else Fate.REJECTED, f"every recipient refused: {fault.recipients[0]}"
            )
        except (aiosmtplib.SMTPException, OSError) as fault:
            return Attempt(Fate.RETRY, f"{server.host}:{server.port}: {fault}")
        except ValueError as fault:
            return Attempt(Fate.REJECTED, f"not an address: {fault}")
        but = f"; refused: {', '.join(refused)}" if refused else ""
        return Attempt(Fate.DELIVERED, f"{told}{but}")

    def _letter(self, notification: Notification) -> EmailMessage:
        letter = EmailMessage()
        letter["Subject"] = subject(notification)
        letter["From"] = self._sender
        letter["To"] = ", ".join(self._to)
        letter["Date"] = format_datetime(notification.alerts[-1].at)
        letter["Message-ID"] = f"<{_local(notification.id)}.{_stamp(notification)}@redis-agent>"
        letter["References"] = f"<{_local(notification.group)}@redis-agent>"
        letter["Auto-Submitted"] = "auto-generated"
        letter.set_content(body(notification))
        return letter


def _local(name: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "." for c in name)


def _stamp(notification: Notification) -> str:
    return f"{notification.alerts[0].opened_at:%Y%m%d%H%M%S}"
