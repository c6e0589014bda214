r"""
A contractive code varies in few directions
===========================================

The contractive penalty makes the encoder's derivative small in all directions that the reconstruction does not need
(Rifai et al., 2011):

.. math:: \min \; E \lVert x - g(f(x)) \rVert^2 + \lambda \lVert \partial f / \partial x \rVert_F^2 .

The Jacobian is large only in the few directions in which the data vary around a row: its singular values fall below
one, most of them far below. ``local_dimension`` counts the important ones.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import ContractiveAutoencoder
from eigencode.parts import Point

X = load_digits().data / 16
options = {
    "hidden": (),
    "code": Point("sigmoid"),
    "likelihood": "bernoulli",
    "max_epochs": 40,
    "random_state": 0,
}
weights = [0.0, 1.0, 10.0]
models = [
    ContractiveAutoencoder(48, weight=weight, **options).fit(X) for weight in weights
]

# %%
# Left: the Jacobian's singular values, averaged over rows. Right: the number of the 48 units that change with a small
# change of a row, by at least a tenth of the largest change of a unit. With lambda 10, few units change,
# since about two thirds of them have the same value for all rows.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
rows = X[:300]
spectra = [model.jacobian_spectrum(rows).mean(0) for model in models]
responses = [np.linalg.norm(model.jacobian(rows), axis=2) for model in models]
changing = [
    (response > 0.1 * response.max(axis=1, keepdims=True)).sum(1)
    for response in responses
]
for weight, spectrum, count in zip(weights, spectra, changing, strict=True):
    left.semilogy(spectrum, label=f"lambda {weight:g}")
    right.hist(
        count, bins=np.arange(0, 49, 2), histtype="step", label=f"lambda {weight:g}"
    )
left.axhline(1, color="gray", ls=":")
left.set(xlabel="direction", ylabel="singular value", ylim=(1e-4, 3))
right.set(xlabel="units that change", ylabel="rows")
left.legend()
right.legend()

# %%
# This does not mean that the *codes* become sparse. In the paper, units saturate; on these small images they do not:
# the share of activities below .05 or above .95 falls with lambda.

for weight, model, spectrum, count in zip(
    weights, models, spectra, changing, strict=True
):
    codes = model.transform(X)
    saturated = ((codes < 0.05) | (codes > 0.95)).mean()
    dimension = model.local_dimension(rows).mean()
    print(
        f"lambda {weight:4.1f}: largest singular value {spectrum[0]:.2f}, "
        f"local dimension {dimension:4.1f}, "
        f"{count.mean():4.1f} units change, saturated {saturated:.0%}"
    )
assert spectra[0][0] > spectra[1][0] > spectra[2][0]
assert spectra[1][0] < 1
