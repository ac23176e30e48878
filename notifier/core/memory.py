"""What the alert log tells, folded entry by entry: the same whether an entry is read back or was just written."""

from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from notifier.core import grouping, outbox
from notifier.core.grouping import Receiver
from notifier.core.outbox import Attempt
from redis_agent.instants import Instant
from redis_agent.model import AlertEvent, AlertEventKind, AlertId, Notification

_HELD_AT_MOST = 50_000


class Memory:
    """Alerts by group, what is owed, the newest entries, and the trace context in which each alert last changed."""

    def __init__(self, wait: timedelta) -> None:
        self.events: deque[AlertEvent] = deque(maxlen=_HELD_AT_MOST)
        self.groups: grouping.Groups = {}
        self.outbox: outbox.Outbox = {}
        self._traces: dict[AlertId, str] = {}
        self._wait = wait

    def remember(self, event: AlertEvent, at: Instant, traceparent: str) -> None:
        """Take an entry in that was written at that instant."""
        self.events.append(event)
        self.groups = grouping.replay(self.groups, event, at, self._wait)
        self.outbox = outbox.replay(self.outbox, event, at)
        if event.alert is not None:
            self._traces.pop(event.alert.id, None)
            self._traces[event.alert.id] = traceparent
            if len(self._traces) > _HELD_AT_MOST:
                del self._traces[next(iter(self._traces))]

    def forget(self, due_before: Instant) -> None:
        """Drop what was due before that and concerned nobody."""
        self.groups = grouping.forget(self.groups, due_before)

    def due(self, receivers: Sequence[Receiver], now: Instant) -> list[Notification]:
        """What is owed at `now` and was not before."""
        self.groups, owed = grouping.due(self.groups, receivers, now)
        return owed

    def settle(self, name: str, attempt: Attempt, now: Instant, give_up: timedelta) -> tuple[AlertEventKind, bool]:
        """What an attempt's end is told as, and whether it was the last."""
        self.outbox, kind, final = outbox.settle(self.outbox, name, attempt, now, give_up)
        return kind, final

    def traces(self, notification: Notification) -> list[str]:
        """The contexts in which its alerts changed, in its order; empty where none is known."""
        return [self._traces.get(alert.id, "") for alert in notification.alerts]
