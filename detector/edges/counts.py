"""What the detector counts, for `/metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from detector.core.stream import Digest

_REASONS = ("unready", "duplicates", "late", "other_vantage", "no_room")


class Counts:
    """The detector's counters, on its registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.open_now = Gauge("redis_agent_anomalies_open", "Anomalies that are open", registry=registry)
        self.sites = Gauge("redis_agent_sites_known", "Sites whose samples are kept", registry=registry)
        self.batch_seconds = Histogram(
            "redis_agent_batch_seconds",
            "From records read to results committed",
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
        )
        self._scored = Counter("redis_agent_samples_scored", "Samples that got a score", registry=registry)
        self._skipped = Counter(
            "redis_agent_samples_skipped", "Samples that got no score, by reason", ["reason"], registry=registry
        )
        self._highest = Histogram(
            "redis_agent_score_highest",
            "The highest score of each batch, in the model's hold-out errors",
            registry=registry,
            buckets=(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20),
        )

    def count(self, digest: Digest) -> None:
        """One batch."""
        self._scored.inc(digest.scored)
        for reason in _REASONS:
            self._skipped.labels(reason).inc(getattr(digest, reason))
        if digest.scored:
            self._highest.observe(digest.highest)
