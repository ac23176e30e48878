"""What an answer, or its absence, says of a site: each kind of failure, each error of Redis, our own slowness."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.verdict import Answer, Failing, Failure, ProbeResult, judge
from redis_agent.model import Reason, Verdict

NO_STALL = timedelta()
TOLERATED = timedelta(milliseconds=250)
ROUND_TRIP = timedelta(milliseconds=1.5)


def judged(outcome: Answer | Failure, stall: timedelta = NO_STALL) -> ProbeResult:
    return judge(outcome, stall, TOLERATED)


def error(text: str) -> Answer:
    return Answer(text, is_error=True, round_trip=ROUND_TRIP, info=None)


@pytest.mark.parametrize(
    ("failing", "verdict", "reason"),
    [
        (Failing.TIMEOUT, Verdict.DOWN, Reason.TIMEOUT),
        (Failing.REFUSED, Verdict.DOWN, Reason.REFUSED),
        (Failing.RESET, Verdict.DOWN, Reason.RESET),
        (Failing.NAME, Verdict.CANNOT_TELL, Reason.DNS),
        (Failing.TLS, Verdict.CANNOT_TELL, Reason.TLS),
        (Failing.NO_ROUTE, Verdict.CANNOT_TELL, Reason.NO_ROUTE),
        (Failing.PROTOCOL, Verdict.CANNOT_TELL, Reason.PROTOCOL),
    ],
)
def test_each_failure_has_its_verdict_and_reason(failing: Failing, verdict: Verdict, reason: Reason) -> None:
    assert judged(Failure(failing, "what happened")) == ProbeResult(verdict, reason, "what happened")


def test_every_failure_is_judged() -> None:
    assert {judged(Failure(failing, "")).reason for failing in Failing} == {
        Reason.TIMEOUT,
        Reason.REFUSED,
        Reason.RESET,
        Reason.DNS,
        Reason.TLS,
        Reason.NO_ROUTE,
        Reason.PROTOCOL,
    }


@pytest.mark.parametrize(
    ("text", "verdict", "reason"),
    [
        ("LOADING Redis is loading the dataset in memory", Verdict.DOWN, Reason.LOADING),
        ("BUSY Redis is busy running a script.", Verdict.CANNOT_TELL, Reason.BUSY),
        ("MASTERDOWN Link with MASTER is down", Verdict.CANNOT_TELL, Reason.MASTERDOWN),
        ("MISCONF Redis is configured to save RDB snapshots", Verdict.CANNOT_TELL, Reason.MISCONF),
        ("NOAUTH Authentication required.", Verdict.CANNOT_TELL, Reason.AUTH),
        ("WRONGPASS invalid username-password pair", Verdict.CANNOT_TELL, Reason.AUTH),
        ("ERR AUTH <password> called without any password configured", Verdict.CANNOT_TELL, Reason.AUTH),
        ("ERR Client sent AUTH, but no password is set", Verdict.CANNOT_TELL, Reason.AUTH),
        ("ERR invalid password", Verdict.CANNOT_TELL, Reason.AUTH),
        ("NOPERM this user has no permissions to run the 'ping' command", Verdict.CANNOT_TELL, Reason.NOPERM),
        ("ERR max number of clients reached", Verdict.CANNOT_TELL, Reason.MAXCLIENTS),
        ("DENIED Redis is running in protected mode", Verdict.CANNOT_TELL, Reason.PROTOCOL),
        ("ERR something new", Verdict.CANNOT_TELL, Reason.PROTOCOL),
    ],
)
def test_each_error_reply_has_its_verdict_and_reason(text: str, verdict: Verdict, reason: Reason) -> None:
    assert judged(error(text)) == ProbeResult(verdict, reason, text)


def test_an_answer_is_up_and_the_evidence_says_how_fast() -> None:
    answer = Answer("PONG", is_error=False, round_trip=ROUND_TRIP, info=b"")
    assert judged(answer) == ProbeResult(Verdict.UP, Reason.ANSWERED, "PONG in 1.5 ms")


def test_an_answer_without_info_is_up_and_the_evidence_says_why() -> None:
    answer = Answer("PONG", is_error=False, round_trip=ROUND_TRIP, info=None, info_error="NOPERM no right to info")
    assert judged(answer).evidence == "PONG in 1.5 ms; no INFO: NOPERM no right to info"


def test_a_time_out_while_this_process_stood_still_says_nothing_of_the_site() -> None:
    finding = judged(Failure(Failing.TIMEOUT, ""), stall=timedelta(milliseconds=400))
    assert (finding.verdict, finding.reason) == (Verdict.CANNOT_TELL, Reason.OWN_STALL)
    assert "400 ms" in finding.evidence


def test_a_stall_that_is_tolerated_changes_nothing() -> None:
    assert judged(Failure(Failing.TIMEOUT, ""), stall=TOLERATED).verdict is Verdict.DOWN


@pytest.mark.parametrize("failing", [Failing.REFUSED, Failing.RESET])
def test_what_the_target_itself_said_counts_whatever_we_did_meanwhile(failing: Failing) -> None:
    assert judged(Failure(failing, ""), stall=timedelta(seconds=5)).verdict is Verdict.DOWN


@given(st.text(max_size=80))
def test_no_error_but_loading_is_ever_down(text: str) -> None:
    if not text.startswith("LOADING"):
        assert judged(error(text)).verdict is Verdict.CANNOT_TELL
