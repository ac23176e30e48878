"""Fleet training: a copy of the model goes on learning from the fleet's own healthy windows, and has to earn its place.

Blocking, in short steps, so that whoever drives it can stop between two of them.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.core.ring import Floats32
from detector.edges import store
from detector.edges.model import Autoencoder, measured
from detector.edges.store import Card
from redis_agent.errors import Malformed

WINDOWS_AT_LEAST = 512
EPOCHS = 10
VERSIONS_KEPT = 10
_HELD_OUT = 0.2
_LEARNING_RATE = 3e-4


@dataclass(frozen=True, slots=True)
class Model:
    """A model in use, and what its card says."""

    net: Autoencoder
    card: Card


def newest(model_dir: Path, base: Path, refused: Callable[[Malformed], None]) -> Model:
    """The newest valid model of the fleet, else the base model. Each one refused is told. Raises Malformed without any."""
    for folder in store.versions(model_dir):
        try:
            card, weights = store.load(folder)
            return Model(Autoencoder(weights), card)
        except Malformed as fault:
            refused(fault)
    card, weights = store.load(base)
    return Model(Autoencoder(weights), card)


class FineTuning:
    """One fine-tuning of a copy of `incumbent` on windows [n, WINDOW, F], oldest first; the last fifth is held out."""

    def __init__(self, incumbent: Model, windows: Floats32) -> None:
        self._incumbent = incumbent
        cut = round(len(windows) * (1 - _HELD_OUT))
        self._learn, self._held = windows[:cut], windows[cut:]
        self._candidate = incumbent.net.copy()
        self._epoch = self._candidate.trainer(self._learn, _LEARNING_RATE)
        self._before = incumbent.net.loss(self._held)

    def epoch(self) -> float:
        """Learn from every window once; the loss on them."""
        return self._epoch()

    def outcome(self, version: str) -> Model | None:
        """The candidate under that version, or None: it does worse than its incumbent on what neither learned from."""
        after = self._candidate.loss(self._held)
        if not np.isfinite(after) or after > self._before:
            return None
        error, _ = measured(self._candidate, self._held)
        card = replace(
            self._incumbent.card,
            version=version,
            origin="fleet",
            error=tuple(float(e) for e in error),
            windows_trained=self._incumbent.card.windows_trained + len(self._learn),
            holdout_loss=after,
        )
        return Model(self._candidate, card)

    @property
    def before(self) -> float:
        """The incumbent's held-out loss."""
        return self._before


def keep(model_dir: Path, model: Model) -> Model:
    """Save under its version, and remove all but the newest ten. Raises OSError."""
    model_dir.mkdir(parents=True, exist_ok=True)
    kept = Model(model.net, store.save(model_dir / model.card.version, model.card, model.net.weights))
    for folder in store.versions(model_dir)[VERSIONS_KEPT:]:
        shutil.rmtree(folder)
    return kept
