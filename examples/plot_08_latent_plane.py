r"""
The latent plane of a variational autoencoder
=============================================

A variational autoencoder maximises

.. math:: E_{q(z|x)} [ \log p(x|z) ] - KL(q(z|x), N(0, I)),

so that its codes fill the plane as a standard normal does, without holes (Kingma & Welling, 2014). Decoding a grid of
that normal's quantiles shows what it has learned to draw.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits

from eigencode import VariationalAutoencoder

X, y = load_digits(return_X_y=True)
model = VariationalAutoencoder(2, hidden=(128, 64), max_epochs=80, random_state=0).fit(X)

# %%
# Left: the means of the digits' codes, by class, which the model never saw. Right: g(z) over the plane.

codes = model.transform(X)
quantiles = norm.ppf(np.linspace(0.03, 0.97, 14))
grid = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
images = model.inverse_transform(grid).reshape(14, 14, 8, 8)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
points = left.scatter(*codes.T, c=y, cmap="tab10", s=6)
left.set(xlabel="z1", ylabel="z2", aspect="equal")
figure.colorbar(points, ax=left, label="class", ticks=range(10), shrink=0.7)
right.imshow(images.transpose(0, 2, 1, 3).reshape(112, 112), cmap="gray_r", vmin=0, vmax=16)
right.axis("off")

# %%
# Together the codes are about as wide as the prior, whose variance is 1: the variance of the means and the mean
# variance of the posteriors add up to that of all codes drawn.

mean, deviation = model.posterior(X)
total = mean.var(0) + (deviation**2).mean(0)
print(f"variance of the aggregated posterior: {total.round(2)}")
assert (abs(total - 1) < 1).all()
