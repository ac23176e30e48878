"""Every error that redis-agent raises on purpose.

AgentError
├── Transient              worth another try: with back-off, and with a bound
│   ├── LogUnavailable     the log can't be reached now
│   ├── Rebalanced         a partition moved while its records were being worked on: read again
│   └── Unreachable        another service or the outside world didn't answer in time
└── Permanent              the same input fails again: refuse it or dead-letter it
    ├── ConfigurationError what is wrong in the configuration, one line a fault
    ├── Fenced             somebody newer took over this writer's name: stop writing, at once
    ├── Malformed          bytes that aren't what their topic says
    ├── NotFound           no such thing
    ├── RecordTooLarge     a record beyond `log.MAX_RECORD_BYTES`
    └── Refused            policy says no; carries every reason
"""

from collections.abc import Sequence


class AgentError(Exception):
    """What redis-agent raises on purpose. The message names the thing, what is wrong and what would be right."""


class Transient(AgentError):
    """May succeed if tried again later."""


class Permanent(AgentError):
    """Will fail again on the same input."""


class LogUnavailable(Transient):
    """The log did not take or give records within the deadline."""


class Rebalanced(Transient):
    """The group's partitions moved; nothing of this commit was kept. Read again."""


class Unreachable(Transient):
    """A peer did not answer within its deadline."""


class Fenced(Permanent):
    """A newer writer opened the same writer name. This one must not write again."""


class Malformed(Permanent):
    """A record or reply that can't be decoded."""


class NotFound(Permanent):
    """The named thing is not part of this fleet or this history."""


class RecordTooLarge(Permanent):
    """A record's value exceeds the limit that both logs share."""


class ConfigurationError(Permanent):
    """The configuration can't be used.

    `faults` holds one line a fault: key, line in the file, what is wrong, what would be right.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Refused(Permanent):
    """Policy refused. `reasons` is complete: every failed check, not only the first."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)
