"""A model on disk: `weights.npz` (arrays only, nothing that could run) and `model.json`, which names the weights' SHA-256.

A folder that doesn't hold together is refused with `Malformed`: a changed byte, other features, another window, no numbers.
A model is written beside its place and moved there in one step, so a reader sees it whole or not at all.
"""

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from detector.core.features import NAMES
from detector.core.intake import WINDOW
from redis_agent.errors import Malformed

FORMAT = 1
_WEIGHTS, _CARD = "weights.npz", "model.json"
_LARGEST_BYTES = 16 * 1024 * 1024
Weights = tuple[NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True)
class Card:
    """What `model.json` says. `error` is the hold-out residual of each feature, `floor` the hold-out score's quantile."""

    version: str
    origin: Literal["base", "fleet"]
    features: tuple[str, ...]
    window: int
    error: tuple[float, ...]
    floor: float
    windows_trained: int
    holdout_loss: float
    weights_sha256: str = ""
    format: int = FORMAT


_CARDS = TypeAdapter(Card)


def load(folder: Path) -> tuple[Card, Weights]:
    """The model in that folder. Raises Malformed with what is wrong and what would be right."""
    try:
        card = _CARDS.validate_json((folder / _CARD).read_bytes())
        packed = _bounded(folder / _WEIGHTS)
    except OSError as fault:
        raise Malformed(f"model {folder}: {fault.strerror}: {fault.filename}") from fault
    except ValidationError as fault:
        raise Malformed(f"model {folder}: {_CARD}: {fault.errors()[0]['msg']}") from fault
    if (digest := sha256(packed).hexdigest()) != card.weights_sha256:
        raise Malformed(f"model {folder}: {_WEIGHTS} has SHA-256 {digest}, not {card.weights_sha256}: it was changed")
    _check(folder, card)
    return card, _unpacked(folder, packed)


def _bounded(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_BYTES:
        raise Malformed(f"model {path}: larger than {_LARGEST_BYTES} bytes")
    return path.read_bytes()


def _check(folder: Path, card: Card) -> None:
    if card.format != FORMAT:
        raise Malformed(f"model {folder}: format {card.format}; this version reads {FORMAT}")
    if card.features != NAMES or card.window != WINDOW:
        raise Malformed(f"model {folder}: made for other features or another window; train it anew")
    numbers = np.array((*card.error, card.floor))
    if len(card.error) != len(NAMES) or not np.isfinite(numbers).all() or (numbers <= 0).any():
        raise Malformed(f"model {folder}: error and floor must be {len(NAMES)} and one positive numbers")


def _unpacked(folder: Path, packed: bytes) -> Weights:
    try:
        with np.load(BytesIO(packed), allow_pickle=False) as arrays:
            weights = tuple(np.asarray(arrays[f"w{n}"], np.float32) for n in range(len(arrays.files)))
    except (ValueError, KeyError, BadZipFile, OSError) as fault:
        raise Malformed(f"model {folder}: {_WEIGHTS}: {fault}") from fault
    if not all(np.isfinite(array).all() for array in weights):
        raise Malformed(f"model {folder}: {_WEIGHTS} holds numbers that aren't finite")
    return weights


def save(folder: Path, card: Card, weights: Weights) -> Card:
    """Write the model to a folder that doesn't exist yet; the card as written. Raises OSError."""
    sink = BytesIO()
    arrays: dict[str, Any] = {f"w{n}": array for n, array in enumerate(weights)}
    np.savez_compressed(sink, **arrays)
    packed = sink.getvalue()
    card = _CARDS.validate_python(asdict(card) | {"weights_sha256": sha256(packed).hexdigest()})
    beside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    beside.mkdir(parents=True)
    (beside / _WEIGHTS).write_bytes(packed)
    (beside / _CARD).write_text(json.dumps(asdict(card), indent=1) + "\n")
    for name in (_WEIGHTS, _CARD):
        with (beside / name).open("rb") as written:
            os.fsync(written.fileno())
    beside.rename(folder)
    return card


def versions(folder: Path) -> list[Path]:
    """The models in a folder of models, newest version first. Versions sort by name."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if (path / _CARD).is_file() and path.name[0] != "."), reverse=True)
