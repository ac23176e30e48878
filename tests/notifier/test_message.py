"""Notifications in words: within every vendor's limits, and never a header of a title's own making."""

from hypothesis import example, given
from hypothesis import strategies as st

from notifier.core.message import (
    SLACK_BLOCKS,
    SLACK_FALLBACK,
    SLACK_SECTION,
    SLACK_TOTAL,
    body,
    cut,
    slack_fallback,
    slack_sections,
    subject,
)
from redis_agent.model import Alert, AlertState, Severity

from .conftest import alert, notification, resolved

LONG = st.sampled_from([1, 149, 150, 1024, 2_999, 3_000, 3_001, 100_000])
TEXTS = st.builds(lambda text, times: (text * times)[:100_000], st.text(min_size=1, max_size=20), LONG)
ALERTS = st.lists(st.builds(lambda title, detail: alert(title=title, detail=detail), TEXTS, TEXTS), min_size=1)


def test_the_subject_says_the_worst_and_newest_and_how_many_more() -> None:
    assert subject(notification(alert())) == "[WARNING] orders/dc-east does not behave normally"
    both = notification(alert(), resolved(alert(), 9))
    assert subject(both) == "[RESOLVED] orders/dc-east behaves normally again (and 1 more)"


def test_the_body_names_each_alert_with_its_times() -> None:
    text = body(notification(alert(severity=Severity.CRITICAL), resolved(alert(), 9)))
    assert "PING takes 40 ms" in text
    assert "firing, critical; opened 2026-11-03 12:00:00 UTC, now 12:00:00 UTC" in text
    assert "resolved, warning; opened 2026-11-03 12:00:00 UTC, now 12:00:09 UTC" in text


def test_slack_sees_the_state_as_a_sign_and_no_markup_of_ours() -> None:
    (section,) = slack_sections(notification(alert(title="a <b> & c", detail="<!channel> all")))
    assert section == ":large_yellow_circle: *a &lt;b&gt; &amp; c*\n&lt;!channel&gt; all"
    (end,) = slack_sections(notification(alert(state=AlertState.RESOLVED)))
    assert end.startswith(":white_check_mark:")
    assert "<!channel>" not in slack_fallback(notification(alert(title="<!channel> all")))


def test_what_is_too_long_is_cut_and_says_so() -> None:
    assert cut("x" * 10, 10) == "x" * 10
    assert cut("x" * 100, 20) == "x" * 12 + " … (cut)"


def test_of_very_many_alerts_slack_shows_the_newest_and_counts_the_others() -> None:
    many = notification(*(alert(f"a{n}", title=f"alert {n}") for n in range(120)))
    sections = slack_sections(many)
    assert len(sections) == SLACK_BLOCKS
    assert "alert 119" in sections[-2]
    assert sections[-1] == "… and 71 older, not shown here"


def lines(text: str) -> int:
    return len(f"{text}.".splitlines())


@given(ALERTS)
@example([alert(title="x\r\nBcc: evil@example.test", detail="y")])
@example([alert(title="x\u2028Bcc: evil@example.test", detail="y")])
def test_no_text_whatever_makes_a_second_line_of_the_subject(alerts: list[Alert]) -> None:
    told = subject(notification(*alerts))
    assert lines(told) == 1
    assert len(told) <= 200


@given(ALERTS)
def test_no_text_whatever_exceeds_what_slack_takes(alerts: list[Alert]) -> None:
    told = notification(*alerts)
    sections = slack_sections(told)
    assert 1 <= len(sections) <= SLACK_BLOCKS
    assert max(map(len, sections)) <= SLACK_SECTION
    assert sum(map(len, sections)) <= SLACK_TOTAL + 100
    assert 0 < len(slack_fallback(told)) <= SLACK_FALLBACK
