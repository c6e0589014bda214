r"""
A denoiser moves rows towards the data
======================================

The optimal reconstruction of a noisy row is the mean of the clean row given the noisy one; by Tweedie's formula, the
difference is the gradient of the noisy density's logarithm (Alain & Bengio, 2014):

.. math:: r(x) - x = \sigma^2 \, \nabla_x \log p_\sigma(x) .

``score_function`` returns this gradient. For rows on a curve, its arrows point to the curve and are zero on it.
"""

import matplotlib.pyplot as plt
import numpy as np

from eigencode import DenoisingAutoencoder

rng = np.random.default_rng(0)
along = rng.uniform(-3, 3, size=2000)
X = np.stack([along, 1.5 * np.sin(np.pi / 2 * along)], axis=1)
model = DenoisingAutoencoder(
    2, level=0.25, hidden=(64, 64), max_epochs=60, random_state=0
).fit(X)

# %%
grid = np.stack(
    np.meshgrid(np.linspace(-3.2, 3.2, 27), np.linspace(-2.2, 2.2, 19)), axis=-1
).reshape(-1, 2)
arrows = model.score_function(grid)
lengths = np.linalg.norm(arrows, axis=1)

figure, axis = plt.subplots(figsize=(8, 5.6), layout="constrained")
axis.plot(*X.T, ".", ms=2, color="tab:orange")
axis.quiver(*grid.T, *(arrows / lengths[:, None] ** 0.5).T, lengths, cmap="viridis")
axis.set(aspect="equal")

# %%
# Denoising moves rows back to the curve: their mean distance from it before and after.

moved = X + 0.25 * model.scaler_.divisor * rng.normal(size=X.shape)


def distance(rows):
    return np.sqrt(((rows[:, None] - X[None, ::2]) ** 2).sum(2).min(1)).mean()


before, after = distance(moved), distance(model.denoise(moved))
print(f"noisy {before:.3f}, denoised {after:.3f}")
assert after < 0.5 * before
