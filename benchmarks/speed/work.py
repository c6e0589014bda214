"""The pieces of work, their data, and what each peer is; imported by the driver and by every worker."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

RATE = 1e-3
"""Step size of Adam: PyOD's, Keras's and scikit-learn's own default."""


@dataclass(frozen=True)
class Work:
    """One piece of work.

    Attributes
    ----------
    title : str
        A description.
    data : str
        Name of the rows.
    hidden : tuple of int
        Widths from the data to the code, channels of the stages for convolutional work.
    n_components : int
        Size of the code.
    batch : int or None
        Rows a step; None leaves each peer its own default.
    epochs : int
        Passes over the rows, the same for all.
    kind : str
        'plain', 'convolutional' or 'variational' networks to fit; 'steps' to compare; rows to 'encode'.
    n_rows : int or None
        Training rows, where not all are used.
    """

    title: str
    data: str
    hidden: tuple[int, ...] = ()
    n_components: int = 0
    batch: int | None = None
    epochs: int = 10
    kind: str = "plain"
    n_rows: int | None = None

    @property
    def is_table(self) -> bool:
        """Whether columns have units of their own: errors are then counted in each column's standard deviation."""
        return self.data in ("cancer", "table")

    def flops(self, n_features: int) -> float | None:
        """Floating-point operations of one training row in the network's products, those of a linear path not counted.

        Two a weight forward, four backward, less the gradient of the input, which nobody needs.
        """
        if self.kind != "plain":
            return None
        widths = (n_features, *self.hidden, self.n_components)
        weights = [a * b for a, b in itertools.pairwise(widths)]
        return 12.0 * sum(weights) - 2.0 * weights[0]


WORKS = {
    "a-256": Work("Fashion-MNIST, 784-512-256-32, batch 256", "fashion", (512, 256), 32, 256),
    "a-1024": Work("Fashion-MNIST, 784-512-256-32, batch 1024", "fashion", (512, 256), 32, 1024),
    "b": Work("MNIST, 784-1000-500-250-30, batch 1024", "mnist", (1000, 500, 250), 30, 1024),
    "c-cancer": Work("breast cancer, 569 x 30, 30-64-8", "cancer", (64,), 8, None, 100),
    "c-table": Work("made table, 10,000 x 20, 20-64-5", "table", (64,), 5, None, 30),
    "d": Work(
        "Fashion-MNIST, convolutions of 32 and 64 channels, 32 codes, batch 256",
        "fashion", (32, 64), 32, 256, 3, "convolutional", 10_000,
    ),
    "e": Work("MNIST, VAE 784-400-40, batch 256", "mnist", (400,), 40, 256, 5, "variational"),
    "f": Work("penalties and sparse codes, MNIST, batch 256, float32", "mnist", batch=256, epochs=7, kind="steps",
              n_rows=5_120),
    "g": Work("encoding 1,000,000 rows of 784, 784-512-256-32", "random", (512, 256), 32, None, 3, "encode",
              1_000_000),
}  # fmt: skip

PEERS = {
    "eigencode": "torch",
    "lean loop": "torch",
    "hand-written": "torch",
    "DataLoader loop": "torch",
    "pythae": "torch",
    "pyod": "torch",
    "skorch": "torch",
    "scikit-learn": "torch",
    "keras": "keras",
}
"""The environment of each peer; eigencode is first, since the lean loop takes its precision."""

ASKED = {"steps": ("eigencode",), "encode": ("eigencode", "pythae", "keras")}
"""The peers of work that is not a fit; every peer is asked to fit."""

LIBRARIES = ("pythae", "pyod", "skorch", "scikit-learn", "keras")

REQUIREMENTS = {"pythae": "pythae.txt", "pyod": "pyod.txt", "skorch": "skorch.txt"}
"""What is put into an environment beside its own list; a peer that is not here needs nothing."""


class Unsupported(Exception):
    """The peer has no such work."""


def made_table(n_rows: int = 10_000, n_columns: int = 20, n_factors: int = 5, noise: float = 0.1, seed: int = 0):
    """Rows near a curved surface: a random network of five factors, and noise a tenth of each column's deviation."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_rows, n_factors))
    bent = np.tanh(factors @ rng.normal(size=(n_factors, 32)) + rng.normal(size=32))
    columns = bent @ rng.normal(size=(32, n_columns))
    columns /= columns.std(0)
    return (columns + noise * rng.normal(size=columns.shape)).astype(np.float32)


def split(rows: np.ndarray, seed: int = 0):
    """Four fifths to learn from and a fifth held out."""
    order = np.random.default_rng(seed).permutation(len(rows))
    first = len(rows) * 4 // 5
    return rows[order[:first]], rows[order[first:]]
