"""The autoencoder, in TensorFlow. Blocking; it lives on one thread. Nothing else imports TensorFlow.

A window of WINDOW x F scaled features goes through 64 - 12 - 64 units and comes out again; it was trained to bring back
healthy windows from noisy ones (Huber loss), so what it doesn't bring back is not like them.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.intake import WIDTH, WINDOW
from detector.core.ring import Floats32
from detector.core.scoring import model_input, normalised_error, scores
from detector.core.stream import Judge
from detector.edges.store import Card, Weights
from redis_agent.errors import Malformed

LAYERS = (64, 12, 64)
BATCHES = (8, 64, 256, 1024)
"""Batches are padded to one of these sizes: oneDNN keeps what it prepared for each size it met."""
_NOISE = 0.1
_LEARNING_RATE = 1e-3
_STEP_WINDOWS = 128
_ERROR_AT_LEAST = 0.5
_SHAPES = tuple(
    shape
    for before, after in zip((WINDOW * WIDTH, *LAYERS), (*LAYERS, WINDOW * WIDTH), strict=True)
    for shape in ((before, after), (after,))
)


def tensorflow() -> Any:
    """TensorFlow on the CPU, one thread, no banner. The first call takes seconds and some 450 MB."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() != 1:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


class Autoencoder:
    """Weights and what to do with them."""

    def __init__(self, weights: Weights | None = None, seed: int = 1) -> None:
        self._tf = tf = tensorflow()
        if weights is not None and tuple(array.shape for array in weights) != _SHAPES:
            raise Malformed(f"weights of shapes {[a.shape for a in weights]}; {list(_SHAPES)} would be right")
        layers = tf.keras.layers
        self._net = tf.keras.Sequential([layers.Input((WINDOW * WIDTH,)), layers.GaussianNoise(_NOISE, seed=seed)])
        for number, units in enumerate((*LAYERS, WINDOW * WIDTH)):
            bent = "relu" if number < len(LAYERS) else None
            start = tf.keras.initializers.GlorotUniform(seed=seed + number)
            self._net.add(layers.Dense(units, activation=bent, kernel_initializer=start))
        if weights is not None:
            self._net.set_weights(list(weights))
        shape = tf.TensorSpec([None, WINDOW * WIDTH], tf.float32)
        self._newest = tf.function(self._expect_newest, input_signature=[shape])

    def _expect_newest(self, windows: Any) -> Any:
        return self._net(windows, training=False)[:, -WIDTH:]

    @property
    def weights(self) -> Weights:
        """As saved: kernel and bias of each layer."""
        return tuple(np.asarray(array, np.float32) for array in self._net.get_weights())

    def expect(self, windows: Floats32) -> Floats32:
        """Windows as `model_input` gives them [n, WINDOW, F] -> the newest tick as expected [n, F]."""
        largest = BATCHES[-1]
        parts = [self._padded(windows[at : at + largest]) for at in range(0, len(windows), largest)]
        return np.concatenate(parts) if parts else np.zeros((0, WIDTH), np.float32)

    def _padded(self, windows: Floats32) -> Floats32:
        count = len(windows)
        batch = np.zeros((next(size for size in BATCHES if size >= count), WINDOW * WIDTH), np.float32)
        batch[:count] = windows.reshape(count, -1)
        expected: Floats32 = self._newest(self._tf.constant(batch)).numpy()[:count]
        return expected

    def copy(self) -> "Autoencoder":
        """The same weights, to train on."""
        return Autoencoder(self.weights)

    def trainer(self, windows: Floats32, learning_rate: float = _LEARNING_RATE) -> Callable[[], float]:
        """What trains one epoch on scaled windows [n, WINDOW, F] (NaN: not observed, not judged) and gives its loss."""
        tf = self._tf
        flat = windows.reshape(len(windows), -1)
        parts = (model_input(flat), np.nan_to_num(flat, nan=0.0), np.isfinite(flat))
        shapes = [tf.TensorSpec([None, WINDOW * WIDTH], part.dtype) for part in parts]
        step = tf.function(self._step_with(tf.keras.optimizers.Adam(learning_rate)), input_signature=shapes)
        dice = np.random.default_rng(1)

        def epoch() -> float:
            order = dice.permutation(len(flat))
            batches = [order[at : at + _STEP_WINDOWS] for at in range(0, len(order), _STEP_WINDOWS)]
            return float(np.mean([float(step(*(tf.constant(part[rows]) for part in parts))) for rows in batches]))

        return epoch

    def _step_with(self, adam: Any) -> Callable[[Any, Any, Any], Any]:
        tf, net = self._tf, self._net

        def step(shown: Any, wanted: Any, observed: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = self._huber(wanted - net(shown, training=True), observed)
            adam.apply_gradients(zip(tape.gradient(loss, net.trainable_weights), net.trainable_weights, strict=True))
            return loss

        return step

    def _huber(self, off: Any, observed: Any) -> Any:
        tf = self._tf
        size = tf.abs(off)
        loss = tf.where(observed, tf.where(size < 1, 0.5 * off * off, size - 0.5), 0.0)
        return tf.reduce_sum(loss) / tf.maximum(tf.reduce_sum(tf.cast(observed, tf.float32)), 1.0)

    def loss(self, windows: Floats32) -> float:
        """Mean Huber loss on the newest ticks of windows that it wasn't trained on."""
        off = np.abs(windows[:, -1] - self.expect(model_input(windows)))
        return float(np.nanmean(np.where(off < 1, 0.5 * off * off, off - 0.5)))


def measured(model: Autoencoder, holdout: Floats32) -> tuple[Floats32, Floats32]:
    """What the model gets wrong on held-out windows [n, WINDOW, F]: the error of each feature [F], and the scores [n]."""
    off = holdout[:, -1] - model.expect(model_input(holdout))
    error = normalised_error(off, _ERROR_AT_LEAST)
    return error, scores((off / error).astype(np.float32))


def judge_of(model: Autoencoder, card: Card) -> Judge:
    """The model as the core sees it."""
    error: NDArray[np.float32] = np.array(card.error, np.float32)
    return Judge(card.version, model.expect, error, card.floor)
