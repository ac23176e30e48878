"""The vendors that the notifier talks to, as fakes that remember what arrived: one place to import them from."""

from simulator.mail_box import Mail, MailBox
from simulator.pagerduty_events import AlertState, Fate, PagerDutyEvent, PagerDutyEvents
from simulator.slack_webhook import SlackPost, SlackWebhook

__all__ = [
    "AlertState",
    "Fate",
    "Mail",
    "MailBox",
    "PagerDutyEvent",
    "PagerDutyEvents",
    "SlackPost",
    "SlackWebhook",
]
