"""One file per outside system: Slack, PagerDuty, mail, the gRPC surface."""
