"""notifier: whom to tell, once, how.

Reads:   anomalies, failovers.
Decides: which alerts those are, which belong together, when and whom to tell, whether to try again.
Writes:  alerts (every change, every notification owed, every attempt); Slack, PagerDuty, mail.
"""
