r"""
A contractive encoder answers to few directions
===============================================

The contractive penalty makes the encoder flat wherever the reconstruction can do without its slope (Rifai et al.,
2011):

.. math:: \min \; E \lVert x - g(f(x)) \rVert^2 + \lambda \lVert \partial f / \partial x \rVert_F^2 .

What is left of the Jacobian are the few directions in which the rows vary around a row: most of its singular values
fall far below one. Sigmoid units get flat by saturating, so that the codes grow sparse.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import ContractiveAutoencoder
from eigencode.parts import Point

X = load_digits().data / 16
options = {"hidden": (), "code": Point("sigmoid"), "likelihood": "bernoulli", "max_epochs": 80, "random_state": 0}
weights = [0.0, 0.1, 1.0]
models = [ContractiveAutoencoder(48, weight=weight, **options).fit(X) for weight in weights]

# %%
# Left: the Jacobian's singular values, mean over the rows. Right: the activities of the code's units.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
for weight, model in zip(weights, models, strict=True):
    left.semilogy(model.jacobian_spectrum(X[:300]).mean(0), label=f"lambda {weight:g}")
    right.hist(model.transform(X).ravel(), bins=np.linspace(0, 1, 41), histtype="step", label=f"lambda {weight:g}")
left.axhline(1, color="gray", ls=":")
left.set(xlabel="direction", ylabel="singular value", ylim=(1e-4, 10))
right.set(xlabel="activity", ylabel="rows and units", yscale="log")
left.legend()
right.legend()

for weight, model in zip(weights, models, strict=True):
    codes = model.transform(X)
    saturated = ((codes < 0.05) | (codes > 0.95)).mean()
    dimension = model.local_dimension(X[:300]).mean()
    print(f"lambda {weight:3.1f}: local dimension {dimension:4.1f}, saturated units {saturated:.0%}")
