"""The anomalies of late as the topic tells them: the newest state of each, newest first."""

from redis_agent.model import Anomaly, AnomalyId, AnomalyState

KEPT = 5000


class AnomalyIndex:
    """Every open anomaly, and closed ones up to `KEPT` in all."""

    def __init__(self) -> None:
        self._anomalies: dict[AnomalyId, Anomaly] = {}

    def note(self, anomaly: Anomaly) -> None:
        """A record of the topic, in its order."""
        self._anomalies[anomaly.id] = anomaly
        if len(self._anomalies) > KEPT:
            closed = (id_ for id_, a in self._anomalies.items() if a.state is AnomalyState.CLOSED)
            if (oldest := next(closed, None)) is not None:
                del self._anomalies[oldest]

    def listed(self, instance: str, *, open_only: bool) -> list[Anomaly]:
        """Those of the instance ("": of all), newest first."""
        chosen = [
            anomaly
            for anomaly in self._anomalies.values()
            if (not instance or anomaly.site.instance == instance)
            and not (open_only and anomaly.state is AnomalyState.CLOSED)
        ]
        return sorted(chosen, key=lambda anomaly: anomaly.opened_at, reverse=True)

    def open_now(self) -> list[Anomaly]:
        """Those that are open, oldest first."""
        return self.listed("", open_only=True)[::-1]
