"""A notification in words.

Limits, from the vendors' documents: Slack takes 50 blocks, 3000 characters a section and (undocumented) about 13,000 in all;
PagerDuty takes a summary of 1024 characters in a body of 512 kB. What doesn't fit is cut and says so.
"""

from redis_agent.model import Alert, AlertState, Notification, Severity

SLACK_SECTION = 3000
SLACK_BLOCKS = 50
SLACK_TOTAL = 12_000
SLACK_FALLBACK = 150
PAGERDUTY_SUMMARY = 1024
PAGERDUTY_DETAIL = 20_000
MAIL_SUBJECT = 200
_CUT = " … (cut)"
_SIGNS = {
    Severity.CRITICAL: ":red_circle:",
    Severity.ERROR: ":large_orange_circle:",
    Severity.WARNING: ":large_yellow_circle:",
    Severity.INFO: ":large_blue_circle:",
}


def cut(text: str, limit: int) -> str:
    """The text, or its beginning with a mark when it is longer than `limit` characters."""
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def subject(notification: Notification) -> str:
    """One line: the newest alert, and how many others."""
    last = notification.alerts[-1]
    more = len(notification.alerts) - 1
    others = f" (and {more} more)" if more else ""
    state = "RESOLVED" if last.state is AlertState.RESOLVED else last.severity.value.upper()
    # Every kind of line end and white space becomes one blank: a title must never begin a header of its own.
    title = cut(" ".join(last.title.split()), MAIL_SUBJECT - 40)
    return f"[{state}] {title}{others}"


def body(notification: Notification) -> str:
    """Plain text: every alert with its times."""
    return "\n\n".join(_paragraph(alert) for alert in notification.alerts) + "\n"


def slack_fallback(notification: Notification) -> str:
    """One line for where Slack can't show sections."""
    return cut(_safe(subject(notification)), SLACK_FALLBACK)


def slack_sections(notification: Notification) -> list[str]:
    """Markdown, one section an alert; of more than fit the newest, and how many others."""
    shown = notification.alerts[-(SLACK_BLOCKS - 1) :]
    limit = min(SLACK_SECTION, SLACK_TOTAL // len(notification.alerts[-SLACK_BLOCKS:]))
    sections = [cut(f"{_sign(alert)} *{_safe(alert.title)}*\n{_safe(alert.detail)}", limit) for alert in shown]
    more = len(notification.alerts) - len(shown)
    return [*sections, f"… and {more} older, not shown here"] if more else sections


def _sign(alert: Alert) -> str:
    return ":white_check_mark:" if alert.state is AlertState.RESOLVED else _SIGNS[alert.severity]


def _safe(text: str) -> str:
    # Slack's three control characters.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _paragraph(alert: Alert) -> str:
    state = f"{alert.state.value}, {alert.severity.value}"
    return f"{alert.title}\n{alert.detail}\n{state}; opened {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC, now {alert.at:%H:%M:%S} UTC"
