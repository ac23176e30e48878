"""What an answer, or its absence, says of a site.

Only the lack of an answer, or an answer that says "I don't serve", is DOWN. An error that concerns us (password, rights),
our own network or our own slowness is CANNOT_TELL: it is never evidence against a site.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

from redis_agent.model import Reason, Verdict


class Failing(Enum):
    """How a poll failed, as the edge saw it."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    NAME = "name"
    TLS = "tls"
    NO_ROUTE = "no route"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class Failure:
    """A poll without an answer, and what the operating system said."""

    failing: Failing
    detail: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A poll's answer: the reply to PING (without its type byte), how long it took, and INFO's text or its error."""

    ping: str
    is_error: bool
    round_trip: timedelta
    info: bytes | None
    info_error: str = ""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What is said of the site, why, and the evidence in words."""

    verdict: Verdict
    reason: Reason
    evidence: str


_FAILURES = {
    Failing.TIMEOUT: (Verdict.DOWN, Reason.TIMEOUT),
    Failing.REFUSED: (Verdict.DOWN, Reason.REFUSED),
    Failing.RESET: (Verdict.DOWN, Reason.RESET),
    Failing.NAME: (Verdict.CANNOT_TELL, Reason.DNS),
    Failing.TLS: (Verdict.CANNOT_TELL, Reason.TLS),
    Failing.NO_ROUTE: (Verdict.CANNOT_TELL, Reason.NO_ROUTE),
    Failing.PROTOCOL: (Verdict.CANNOT_TELL, Reason.PROTOCOL),
}
# By the first word of Redis's error reply to PING.
_ERRORS = {
    "LOADING": (Verdict.DOWN, Reason.LOADING),
    "BUSY": (Verdict.CANNOT_TELL, Reason.BUSY),
    "MASTERDOWN": (Verdict.CANNOT_TELL, Reason.MASTERDOWN),
    "MISCONF": (Verdict.CANNOT_TELL, Reason.MISCONF),
    "NOAUTH": (Verdict.CANNOT_TELL, Reason.AUTH),
    "WRONGPASS": (Verdict.CANNOT_TELL, Reason.AUTH),
    "NOPERM": (Verdict.CANNOT_TELL, Reason.NOPERM),
}
# What AUTH says without a word of its own: no password is set there, or (before Redis 6) it is another one.
_LOGIN_ERRORS = ("ERR AUTH ", "ERR Client sent AUTH", "ERR invalid password")


def judge(outcome: Answer | Failure, own_stall: timedelta, tolerated_stall: timedelta) -> ProbeResult:
    """The result of one poll. A time-out while this process itself stood still says nothing about the site."""
    if isinstance(outcome, Failure):
        if outcome.failing is Failing.TIMEOUT and own_stall > tolerated_stall:
            millis = own_stall / timedelta(milliseconds=1)
            return ProbeResult(Verdict.CANNOT_TELL, Reason.OWN_STALL, f"this process stood still for {millis:.0f} ms")
        verdict, reason = _FAILURES[outcome.failing]
        return ProbeResult(verdict, reason, outcome.detail)
    if outcome.is_error:
        return _judge_error(outcome.ping)
    millis = outcome.round_trip / timedelta(milliseconds=1)
    without = f"; no INFO: {outcome.info_error}" if outcome.info is None and outcome.info_error else ""
    return ProbeResult(Verdict.UP, Reason.ANSWERED, f"{outcome.ping} in {millis:.1f} ms{without}")


def _judge_error(text: str) -> ProbeResult:
    word = text.partition(" ")[0]
    if "max number of clients" in text:
        return ProbeResult(Verdict.CANNOT_TELL, Reason.MAXCLIENTS, text)
    if text.startswith(_LOGIN_ERRORS):
        return ProbeResult(Verdict.CANNOT_TELL, Reason.AUTH, text)
    verdict, reason = _ERRORS.get(word, (Verdict.CANNOT_TELL, Reason.PROTOCOL))
    return ProbeResult(verdict, reason, text)
