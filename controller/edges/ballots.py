"""What the collectors and the detector last said, kept from the log: votes by site and vantage, open anomalies by site."""

from dataclasses import dataclass, field
from datetime import datetime

from controller.core.votes import is_newer
from redis_agent import topics
from redis_agent.errors import Malformed
from redis_agent.log import Delivered
from redis_agent.model import Anomaly, AnomalyState, Observation, SiteId, Vantage, Verdict
from redis_agent.wire import decode_anomaly, decode_observation

Voter = tuple[SiteId, Vantage]


@dataclass(frozen=True, slots=True)
class FirstDown:
    """When a vantage's present run of DOWN began, and the trace of the poll that saw it."""

    at: datetime
    traceparent: str


@dataclass(slots=True)
class Ballots:
    """The newest vote of every vantage on every site. One owner: the service's loop."""

    latest: dict[Voter, Observation] = field(default_factory=dict)
    down_from: dict[Voter, FirstDown] = field(default_factory=dict)
    anomalies: dict[SiteId, Anomaly] = field(default_factory=dict)

    def note(self, record: Delivered) -> None:
        """Take one record in. Raises Malformed."""
        if record.topic == topics.OBSERVATIONS.name:
            self._vote(decode_observation(record.value), record.header("traceparent") or "")
        elif record.topic == topics.ANOMALIES.name:
            self._anomaly(decode_anomaly(record.value))
        else:
            raise Malformed(f"{record.topic} is not read here")

    def _vote(self, observation: Observation, traceparent: str) -> None:
        voter = (observation.site, observation.vantage)
        if not is_newer(observation, self.latest.get(voter)):
            return
        self.latest[voter] = observation
        if observation.verdict is Verdict.DOWN:
            self.down_from.setdefault(voter, FirstDown(observation.at, traceparent))
        else:
            self.down_from.pop(voter, None)

    def _anomaly(self, anomaly: Anomaly) -> None:
        if anomaly.state is AnomalyState.CLOSED:
            self.anomalies.pop(anomaly.site, None)
        else:
            self.anomalies[anomaly.site] = anomaly

    def first_down(self, site: SiteId) -> list[FirstDown]:
        """The beginnings of every vantage's run of DOWN on that site, earliest first."""
        return sorted((first for (voted, _), first in self.down_from.items() if voted == site), key=lambda f: f.at)
