"""Keras 3 on JAX, or on what KERAS_BACKEND names: `compile` and `fit`; the variational one by a layer with a loss."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import time

import keras
import numpy as np
from keras import layers, ops
from scaled import Scaled
from work import RATE

BATCH = 32
"""Keras's default."""


class Draw(layers.Layer):
    """A draw from the code, which adds its divergence from the standard normal to the loss."""

    def __init__(self, n_features):
        super().__init__()
        self.n_features, self.seed = n_features, keras.random.SeedGenerator(0)

    def call(self, mean, log_variance, training=False):
        divergence = ops.sum(ops.square(mean) + ops.exp(log_variance) - 1 - log_variance, axis=1) / 2
        # The loss beside it is a mean over the columns.
        self.add_loss(ops.mean(divergence) / self.n_features)
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        return mean + ops.exp(log_variance / 2) * noise if training else mean


def encoded(work, x):
    """The code of rows, and what precedes the decoder."""
    if work.kind == "convolutional":
        x = layers.Reshape((28, 28, 1))(x)
        for channels in work.hidden:
            x = layers.Conv2D(channels, 4, strides=2, padding="same", activation="relu")(x)
        return layers.Dense(work.n_components)(layers.Flatten()(x))
    n_features = x.shape[1]
    for width in work.hidden:
        x = layers.Dense(width, activation="relu")(x)
    if work.kind != "variational":
        return layers.Dense(work.n_components)(x)
    return Draw(n_features)(layers.Dense(work.n_components)(x), layers.Dense(work.n_components)(x))


def decoded(work, z, n_features):
    """The rows rebuilt; as in Keras's own examples a sigmoid ends what is from 0 to 1."""
    end = None if work.is_table else "sigmoid"
    if work.kind == "convolutional":
        size = 28 >> len(work.hidden)
        z = layers.Dense(size * size * work.hidden[-1], activation="relu")(z)
        z = layers.Reshape((size, size, work.hidden[-1]))(z)
        for channels in work.hidden[-2::-1]:
            z = layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="relu")(z)
        return layers.Flatten()(layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation=end)(z))
    for width in work.hidden[::-1]:
        z = layers.Dense(width, activation="relu")(z)
    return layers.Dense(n_features, activation=end)(z)


class Marker(keras.callbacks.Callback):
    """Evaluates the model at the end of each epoch, and at looks."""

    def __init__(self, mark, reconstruct, batch):
        super().__init__()
        self.mark, self.reconstruct, self.batch = mark, reconstruct, batch

    def on_train_batch_end(self, batch, logs=None):
        self.mark.seen(self.batch, self.reconstruct)

    def on_epoch_end(self, epoch, logs=None):
        self.mark(self.reconstruct)


def fit(work, rows, epochs, mark, options):
    keras.utils.set_random_seed(0)
    data = Scaled(work, rows)
    x = keras.Input((rows.shape[1],))
    model = keras.Model(x, decoded(work, encoded(work, x), rows.shape[1]))
    loss = "binary_crossentropy" if work.kind == "variational" else "mse"
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss)

    def reconstruct(part):
        if keras.backend.backend() == "jax":
            model.jax_state_sync()  # the step keeps the weights to itself
        return ops.convert_to_numpy(model(part, training=False))

    given = {} if work.batch is None else {"batch_size": work.batch}
    callbacks = [Marker(mark, data.reconstruct(reconstruct), work.batch or BATCH)]
    if options.patience:
        callbacks.append(keras.callbacks.EarlyStopping(patience=options.patience, restore_best_weights=True))
        given["validation_split"] = 0.1
    model.fit(data.rows, data.rows, epochs=epochs, verbose=0, callbacks=callbacks, **given)
    return {}


def encode(work, rows, repeats, options):
    x = keras.Input((rows.shape[1],))
    model = keras.Model(x, encoded(work, x))
    model.predict(rows[:8192], batch_size=8192, verbose=0)
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        model.predict(rows, batch_size=8192, verbose=0)
        found.append(time.perf_counter() - began)
    return {"rows_per_second": len(rows) / float(np.median(found))}
