r"""
A contractive encoder answers to few directions
===============================================

The contractive penalty makes the encoder flat wherever the reconstruction can do without its slope (Rifai et al.,
2011):

.. math:: \min \; E \lVert x - g(f(x)) \rVert^2 + \lambda \lVert \partial f / \partial x \rVert_F^2 .

What is left of the Jacobian are the few directions in which the rows vary around a row: its singular values fall below
one, most of them far below. ``local_dimension`` counts those that matter.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import ContractiveAutoencoder
from eigencode.parts import Point

X = load_digits().data / 16
options = {"hidden": (), "code": Point("sigmoid"), "likelihood": "bernoulli", "max_epochs": 40, "random_state": 0}
weights = [0.0, 1.0, 10.0]
models = [ContractiveAutoencoder(48, weight=weight, **options).fit(X) for weight in weights]

# %%
# Left: the Jacobian's singular values, mean over rows. Right: how many of the 48 units answer to a small move of a row,
# by at least a tenth of what the most responsive one does: at lambda 10 the response is sparse.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
rows = X[:300]
spectra = [model.jacobian_spectrum(rows).mean(0) for model in models]
responses = [np.linalg.norm(model.jacobian(rows), axis=2) for model in models]
answering = [(response > 0.1 * response.max(axis=1, keepdims=True)).sum(1) for response in responses]
for weight, spectrum, count in zip(weights, spectra, answering, strict=True):
    left.semilogy(spectrum, label=f"lambda {weight:g}")
    right.hist(count, bins=np.arange(0, 49, 2), histtype="step", label=f"lambda {weight:g}")
left.axhline(1, color="gray", ls=":")
left.set(xlabel="direction", ylabel="singular value", ylim=(1e-4, 3))
right.set(xlabel="units that answer", ylabel="rows")
left.legend()
right.legend()

# %%
# Whether the *codes* grow sparse is another matter. The paper saw units saturate; on these small images they do not:
# the share of activities below .05 or above .95 falls with lambda.

for weight, model, spectrum, count in zip(weights, models, spectra, answering, strict=True):
    codes = model.transform(X)
    saturated = ((codes < 0.05) | (codes > 0.95)).mean()
    dimension = model.local_dimension(rows).mean()
    print(
        f"lambda {weight:4.1f}: largest singular value {spectrum[0]:.2f}, local dimension {dimension:4.1f}, "
        f"{count.mean():4.1f} units answer, saturated {saturated:.0%}"
    )
assert spectra[0][0] > spectra[1][0] > spectra[2][0]
assert spectra[1][0] < 1
