"""What the detector takes of the fleet's file."""

from dataclasses import dataclass
from pathlib import Path

from detector.core.stream import Rules
from redis_agent.fleet import Fleet

BASE_MODEL = Path(__file__).parent / "base_model"
_FRESH_TICKS, _FRESH_SECONDS = 5, 3.0
_GAP_TICKS, _GAP_SECONDS = 10, 10.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What counts as a sample, where models lie, and how often to learn (0: never)."""

    rules: Rules
    base_model: Path
    model_dir: Path
    retrain_after_seconds: float


def read(fleet: Fleet) -> Settings:
    """The detector's part. A vantage is fresh for five ticks, a silence of ten begins a new window."""
    interval, section = fleet.samples_seconds(home=True), fleet.detector
    rules = Rules(
        vantage=section.vantage,
        fresh_seconds=max(_FRESH_SECONDS, _FRESH_TICKS * interval),
        gap_seconds=max(_GAP_SECONDS, _GAP_TICKS * interval),
    )
    return Settings(rules, BASE_MODEL, section.model_dir, section.retrain_after_seconds)
