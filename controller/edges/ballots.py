"""What the collectors and the detector last said, kept from the log: votes by site and vantage, open anomalies by site."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

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
    heard: dict[SiteId, datetime] = field(default_factory=dict)

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
        self._hear(observation)
        if observation.verdict is Verdict.DOWN:
            self.down_from.setdefault(voter, FirstDown(observation.at, traceparent))
        else:
            self.down_from.pop(voter, None)

    def _hear(self, observation: Observation) -> None:
        """A replica's last word from its primary, while the link is up: once it is down, Redis dates only its fall."""
        replication = observation.replication
        if replication is not None and replication.link_up and replication.last_io_seconds >= 0:
            at = observation.at - timedelta(seconds=replication.last_io_seconds)
            self.heard[observation.site] = max(at, self.heard.get(observation.site, at))

    def _anomaly(self, anomaly: Anomaly) -> None:
        if anomaly.state is AnomalyState.CLOSED:
            self.anomalies.pop(anomaly.site, None)
        else:
            self.anomalies[anomaly.site] = anomaly

    def first_down(self, site: SiteId, vantages: Iterable[Vantage]) -> list[FirstDown]:
        """The beginnings of these vantages' runs of DOWN on that site, earliest first."""
        runs = [self.down_from[(site, vantage)] for vantage in vantages if (site, vantage) in self.down_from]
        return sorted(runs, key=lambda first: first.at)
