"""A notification in words. Limits: Slack section text 3000 characters, PagerDuty summary 1024 (vendors' documents)."""

from redis_agent.model import Alert, AlertState, Notification, Severity

SLACK_SECTION = 3000
SLACK_BLOCKS = 50
SLACK_HEADER = 150
PAGERDUTY_SUMMARY = 1024
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
    return f"[{state}] {last.title}{others}".replace("\r", " ").replace("\n", " ")


def body(notification: Notification) -> str:
    """Plain text: every alert with its times."""
    return "\n\n".join(_paragraph(alert) for alert in notification.alerts) + "\n"


def slack_sections(notification: Notification) -> list[str]:
    """Markdown, one section an alert."""
    shown = notification.alerts[-(SLACK_BLOCKS - 1) :]
    return [cut(f"{_sign(alert)} *{_safe(alert.title)}*\n{_safe(alert.detail)}", SLACK_SECTION) for alert in shown]


def _sign(alert: Alert) -> str:
    return ":white_check_mark:" if alert.state is AlertState.RESOLVED else _SIGNS[alert.severity]


def _safe(text: str) -> str:
    # Slack's three control characters.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _paragraph(alert: Alert) -> str:
    state = f"{alert.state.value}, {alert.severity.value}"
    return f"{alert.title}\n{alert.detail}\n{state}; opened {alert.opened_at:%Y-%m-%d %H:%M:%S} UTC, now {alert.at:%H:%M:%S} UTC"
