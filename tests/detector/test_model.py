"""The autoencoder and its files: real TensorFlow, small data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.core.features import NAMES
from detector.core.intake import WIDTH, WINDOW
from detector.core.ring import Floats32
from detector.core.scoring import model_input, scores
from detector.core.stream import Rules, Stream
from detector.core.table import read
from detector.edges import fine_tuning, store
from detector.edges.fine_tuning import FineTuning, Model
from detector.edges.model import BATCHES, Autoencoder, judge_of, measured
from detector.edges.store import Card, Weights
from detector.settings import BASE_MODEL
from redis_agent.errors import Malformed
from tests.detector.rows import Database, played, record


def periodic(count: int, seed: int = 1) -> Floats32:
    """Windows of waves that share a few rhythms, with a little noise."""
    dice = np.random.default_rng(seed)
    start = dice.uniform(0, 2 * np.pi, (count, 1, 1))
    phase = np.linspace(0, 3, WIDTH)[None, None]
    ticks = np.arange(WINDOW)[None, :, None]
    waves = 1.5 * np.sin(start + phase + ticks / 3) + dice.normal(0, 0.1, (count, WINDOW, WIDTH))
    return waves.astype(np.float32)


@pytest.fixture(scope="module")
def trained() -> Model:
    net = Autoencoder()
    epoch = net.trainer(periodic(2000))
    losses = [epoch() for _ in range(25)]
    assert losses[-1] < losses[0] / 2
    error, found = measured(net, periodic(300, seed=2))
    floor = float(np.quantile(found, 0.99))
    card = Card("base-test", "base", NAMES, WINDOW, tuple(error.tolist()), floor, 2000, net.loss(periodic(300, seed=2)))
    return Model(net, card)


def scored(model: Model, windows: Floats32) -> Floats32:
    off = windows[:, -1] - model.net.expect(model_input(windows))
    return scores((off / np.array(model.card.error, np.float32)).astype(np.float32))


def test_a_spike_scores_higher_than_what_it_was_trained_on(trained: Model) -> None:
    healthy = periodic(200, seed=3)
    spiked = healthy.copy()
    spiked[:, -1, 5] = 10.0
    assert scored(trained, spiked).min() > np.quantile(scored(trained, healthy), 0.99)
    dropped = healthy.copy()
    dropped[:, -1, :4] = -8.0
    assert scored(trained, dropped).min() > np.quantile(scored(trained, healthy), 0.99)


def test_a_score_does_not_depend_on_who_shares_the_batch(trained: Model) -> None:
    windows = model_input(periodic(BATCHES[-1] + 70, seed=4))
    together = trained.net.expect(windows)
    for count in (1, 100):
        assert np.abs(trained.net.expect(windows[:count]) - together[:count]).max() < 1e-5
    assert np.abs(trained.net.expect(windows[-70:]) - together[-70:]).max() < 1e-5
    assert trained.net.expect(windows[:0]).shape == (0, WIDTH)


def test_values_that_were_not_observed_do_not_teach(trained: Model) -> None:
    holes = periodic(400, seed=5)
    holes[:, :, 3] = np.nan
    assert np.isfinite(trained.net.copy().trainer(holes)())
    assert np.isfinite(trained.net.loss(holes))


def test_a_saved_model_comes_back_the_same(trained: Model, tmp_path: Path) -> None:
    card = store.save(tmp_path / "m1", trained.card, trained.net.weights)
    found, weights = store.load(tmp_path / "m1")
    assert found == card
    windows = model_input(periodic(20))
    assert np.array_equal(Autoencoder(weights).expect(windows), trained.net.expect(windows))
    assert sorted(path.name for path in (tmp_path / "m1").iterdir()) == ["model.json", "weights.npz"]


def test_a_tampered_model_is_refused_and_says_what_is_wrong(trained: Model, tmp_path: Path) -> None:
    folder = tmp_path / "m1"
    store.save(folder, trained.card, trained.net.weights)
    weights = folder / "weights.npz"
    packed = bytearray(weights.read_bytes())
    packed[len(packed) // 2] ^= 1
    weights.write_bytes(packed)
    with pytest.raises(Malformed, match="it was changed"):
        store.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("format", 2, "format 2"),
        ("features", ["commands_per_second"], "other features"),
        ("window", 9, "another window"),
        ("error", [1.0], "positive numbers"),
        ("floor", -1, "positive numbers"),
        ("origin", "elsewhere", "model.json"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(
    trained: Model, tmp_path: Path, key: str, value: object, complaint: str
) -> None:
    folder = tmp_path / "m1"
    store.save(folder, trained.card, trained.net.weights)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, key: value}))
    with pytest.raises(Malformed, match=complaint):
        store.load(folder)


def test_pickled_weights_are_never_unpacked(trained: Model, tmp_path: Path) -> None:
    objects = np.empty(1, object)
    objects[0] = {"anything": "at all"}
    weights: Weights = (objects,)
    store.save(tmp_path / "m1", trained.card, weights)
    with pytest.raises(Malformed, match="pickle"):
        store.load(tmp_path / "m1")


def test_weights_of_other_shapes_are_refused(trained: Model) -> None:
    with pytest.raises(Malformed, match="shapes"):
        Autoencoder(trained.net.weights[:-1])


def test_the_newest_valid_model_is_used_and_without_one_the_base_model(trained: Model, tmp_path: Path) -> None:
    refused: list[Malformed] = []
    assert fine_tuning.newest(tmp_path / "none", BASE_MODEL, refused.append).card.origin == "base"
    for version in ("fleet-1", "fleet-2", "fleet-3"):
        card = replace(trained.card, version=version, origin="fleet")
        store.save(tmp_path / version, card, trained.net.weights)
    (tmp_path / "fleet-3" / "weights.npz").write_bytes(b"")
    assert fine_tuning.newest(tmp_path, BASE_MODEL, refused.append).card.version == "fleet-2"
    assert "fleet-3" in str(refused[0])


def test_a_fine_tuned_model_is_accepted_when_it_does_no_worse_and_kept_under_its_version(
    trained: Model, tmp_path: Path
) -> None:
    run = FineTuning(trained, periodic(600, seed=7) * 1.5)
    for _ in range(5):
        run.epoch()
    candidate = run.outcome("fleet-1")
    assert candidate is not None
    assert candidate.card.origin == "fleet"
    assert candidate.card.holdout_loss <= run.before
    kept = fine_tuning.keep(tmp_path, candidate)
    refused: list[Malformed] = []
    assert fine_tuning.newest(tmp_path, BASE_MODEL, refused.append).card == kept.card
    assert refused == []


def test_a_fine_tuning_that_made_it_worse_is_not_accepted(trained: Model) -> None:
    windows = periodic(600, seed=8)
    windows[:480] *= np.random.default_rng(1).normal(0, 3, (480, 1, WIDTH)).astype(np.float32)
    run = FineTuning(trained, windows)
    for _ in range(10):
        run.epoch()
    assert run.outcome("fleet-1") is None


def test_only_the_newest_models_are_kept(trained: Model, tmp_path: Path) -> None:
    for number in range(fine_tuning.VERSIONS_KEPT + 3):
        version = f"fleet-{number:02}"
        fine_tuning.keep(tmp_path, Model(trained.net, replace(trained.card, version=version)))
    assert [path.name for path in store.versions(tmp_path)][-1] == "fleet-03"


def test_the_shipped_model_is_calm_about_a_steady_database_and_not_about_a_storm() -> None:
    card, weights = store.load(BASE_MODEL)
    assert sum(path.stat().st_size for path in BASE_MODEL.iterdir()) < 300_000
    stream = Stream(judge_of(Autoencoder(weights), card), Rules())
    database = Database("orders")
    assert stream.digest(read(record(played([database], range(300))))).notices == []
    database.levels["clients_connected"] = 600.0
    database.per_second["connections_received_total"] = 200.0
    stormy = stream.digest(read(record(played([database], range(300, 310)))))
    assert stormy.notices
    assert {c.feature for c in stormy.notices[0].why[:2]} == {"clients_connected", "connections_received_per_second"}
