r"""
Weight decay is the most probable weights
=========================================

With noise of variance :math:`\sigma_D^2` in the rows and weights that are normal with variance :math:`\sigma_w^2` before
any row is seen, the most probable weights minimise

.. math:: \sum_n \lVert x_n - g(f(x_n)) \rVert^2 + \lambda \sum_i w_i^2 ,
   \qquad \lambda = \sigma_D^2 / \sigma_w^2 .

For linear f and g the minimum is known: a principal direction with the variance :math:`l_i` in n rows is rebuilt with the
factor :math:`(1 - \lambda / (n \, l_i))_+`, so that weak directions vanish.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import LinearAutoencoder
from eigencode.parts import GaussianWeights

rng = np.random.default_rng(0)
digits = rng.permutation(load_digits().data)
noisy = digits + 4 * rng.normal(size=digits.shape)
train, test, truth = noisy[:300], noisy[300:], digits[300:]
SIZE, NOISE = 40, 0.5  # the variance of the default likelihood, in scaled units
variances = np.logspace(-3.5, -1.5, 13)
models = [
    LinearAutoencoder(SIZE, weight_prior=GaussianWeights(variance=v)).fit(train)
    for v in variances
]
plain = LinearAutoencoder(SIZE).fit(train)


def error(model):
    """The squared error of reconstructions of noisy digits, beside the clean ones."""
    return ((model.reconstruct(test) - truth) ** 2).sum(axis=1).mean()


# %%
# Left: how much of each direction is rebuilt, as points, and the formula as lines. Right: the error on new rows. The rows
# are digits with noise. Noise is all that the last of 40 directions rebuild, and a prior that removes them makes the
# error smaller. Without noise in the rows it would not: then all directions say something about the digits.

scaled = (train - train.mean(0)) / plain.scaler_.divisor
eigenvalues = np.linalg.svd(scaled, compute_uv=False)[:SIZE] ** 2  # n times l
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
for number in (2, 5, 8):
    parts = models[number].composition_.decoder, models[number].composition_.encoder
    decoder, encoder = (part.affine.weight.detach().numpy() for part in parts)
    factors = np.linalg.svd(decoder @ encoder, compute_uv=False)[:SIZE]
    formula = np.clip(1 - NOISE / variances[number] / eigenvalues, 0, None)
    (line,) = left.plot(formula, label=f"$\\sigma_w^2$ = {variances[number]:.4f}")
    left.plot(factors, "o", ms=4, color=line.get_color())
    np.testing.assert_allclose(factors, formula, atol=1e-3)
left.set(xlabel="principal direction", ylabel="factor")
left.legend()
errors = [error(model) for model in models]
right.semilogx(variances, errors, "o-")
right.axhline(error(plain), color="gray", ls=":")
right.text(variances[-1], error(plain), "without a prior", ha="right", va="bottom")
right.set(xlabel="variance of the prior on weights", ylabel="error on new rows")
print(f"error {min(errors):.0f} with the best prior, {error(plain):.0f} without one")
assert min(errors) < 0.9 * error(plain)
