"""`python -m detector.train --data DIR --out DIR`: the base model, from recorded samples of healthy sites.

DIR holds Parquet files of `redis_agent.samples` rows, as `detector.record` writes them. Windows come through the
detector's own intake; the last fifth of each file's time is held out and measures the errors that scores are divided by.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from detector.core.features import NAMES
from detector.core.intake import WINDOW
from detector.core.recorded import Recorded, smoothed, windows_of
from detector.core.ring import Floats32
from detector.edges.model import Autoencoder, measured
from detector.edges.store import Card, save

HELD_OUT = 0.2
EPOCHS = 400
FLOOR_QUANTILE = 0.99
_PATIENCE = 15


def gather(files: Sequence[Path]) -> tuple[Floats32, list[Recorded]]:
    """Windows to learn from of all files, and the held-out part of each."""
    parts = [windows_of(pl.read_parquet(file)).split(HELD_OUT) for file in files]
    return np.concatenate([learn.windows for learn, _ in parts]), [held for _, held in parts]


def train(learn: Floats32, held: Floats32, epochs: int = EPOCHS) -> Autoencoder:
    """Train until the held-out loss hasn't fallen for fifteen epochs; the best model on the way."""
    model = Autoencoder()
    epoch = model.trainer(learn)
    best, best_loss, since = model.weights, model.loss(held), 0
    for number in range(1, epochs + 1):
        learned = epoch()
        loss = model.loss(held)
        sys.stderr.write(f"epoch {number}: learned {learned:.4f}, held out {loss:.4f}\n")
        best, best_loss, since = (model.weights, loss, 0) if loss < best_loss else (best, best_loss, since + 1)
        if since >= _PATIENCE:
            break
    return Autoencoder(best)


def card_of(model: Autoencoder, version: str, learned: int, held: Sequence[Recorded]) -> Card:
    """What the model gets wrong on what was held out, and the smoothed score that one tick in a hundred passed there."""
    windows = np.concatenate([part.windows for part in held])
    error, scores = measured(model, windows)
    ends = np.cumsum([len(part.windows) for part in held])[:-1]
    smooth = [smoothed(s, part.slots) for s, part in zip(np.split(scores, ends), held, strict=True)]
    floor = float(np.nanquantile(np.concatenate(smooth), FLOOR_QUANTILE))
    error_of = tuple(float(e) for e in error)
    return Card(version, "base", NAMES, WINDOW, error_of, floor, learned, model.loss(windows))


def main() -> int:
    """Read the arguments, train, save."""
    parser = argparse.ArgumentParser(prog="python -m detector.train")
    parser.add_argument("--data", type=Path, required=True, help="folder of Parquet files of healthy samples")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model; replaced")
    parser.add_argument("--version", default="base-1")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("*.parquet"))
    if not files:
        sys.stderr.write(f"no Parquet file in {arguments.data}; record some with python -m detector.record\n")
        return 1
    learn, held = gather(files)
    windows = np.concatenate([part.windows for part in held])
    sys.stderr.write(f"{len(learn)} windows to learn from, {len(windows)} held out, {len(NAMES)} features\n")
    model = train(learn, windows, arguments.epochs)
    card = card_of(model, arguments.version, len(learn), held)
    _replace(arguments.out, card, model)
    sys.stderr.write(f"{card.version}: held-out loss {card.holdout_loss:.4f}, score floor {card.floor:.2f}\n")
    return 0


def _replace(out: Path, card: Card, model: Autoencoder) -> None:
    """Save, keeping the notes that lie beside an older model."""
    fresh = out.with_name(f"{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    save(fresh, card, model.weights)
    out.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(out / file.name)
    fresh.rmdir()


if __name__ == "__main__":
    sys.exit(main())
