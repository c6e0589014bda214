r"""
Filters of a sparse code
========================

A sparse autoencoder reconstructs each row with few of many units. With top-k units,

.. math:: h = \mathrm{top}_k(W x + b), \qquad \hat x = D h + c,

each unit becomes a stroke, and with fewer active units the strokes are larger (Makhzani & Frey, 2013). The L1 penalty
lambda \|h\|_1 corresponds to a prior: it is -log p(h) for a Laplace density (Olshausen & Field, 1996). The KL penalty
holds the mean activity of each sigmoid unit at a target (Ng, 2011).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import SparseAutoencoder

X, X_test = train_test_split(load_digits().data, test_size=0.25, random_state=0)
models = {
    f"top-k, {active} active": SparseAutoencoder(
        96, sparsity="top_k", active=active, max_epochs=80, random_state=0
    )
    for active in (24, 8, 3)
} | {
    "L1, 8 active": SparseAutoencoder(
        96, sparsity="l1", active=8, max_epochs=80, random_state=0
    ),
    "KL, activity .08": SparseAutoencoder(
        96, sparsity="kl", active=0.08, max_epochs=80, random_state=0
    ),
}
for model in models.values():
    model.fit(X)

# %%
# The contribution of a unit to the image, g(e_j) - g(0), for the 16 units that most rows use. The numbers are of test
# rows, for which the number of active units is meant; the training rows need fewer.

figure, axes = plt.subplots(5, 16, figsize=(10, 3.7), layout="constrained")
for line, (name, model) in zip(axes, models.items(), strict=True):
    active = model.transform(X_test) > 0.1  # a sigmoid unit is never quite zero
    strokes = model.inverse_transform(np.eye(96)) - model.inverse_transform(
        np.zeros((1, 96))
    )
    strokes = strokes[active.sum(0).argsort()[::-1][:16]]
    line[0].text(-1.5, 4, name, ha="right", va="center")
    for axis, stroke in zip(
        line, strokes / abs(strokes).max(axis=1, keepdims=True), strict=True
    ):
        axis.imshow(stroke.reshape(8, 8), cmap="RdBu_r", vmin=-1, vmax=1)
        axis.axis("off")
    error = model.reconstruction_error(X_test).mean()
    print(
        f"{name:18s} {active.sum(1).mean():5.1f} active per row, "
        f"{active.any(0).sum()} of 96 used, error {error:.0f}"
    )
