r"""
The latent plane of a variational autoencoder
=============================================

A variational autoencoder maximises

.. math:: E_{q(z|x)} [ \log p(x|z) ] - KL(q(z|x), N(0, I)),

so that its codes are distributed nearly as a standard normal, without gaps (Kingma & Welling, 2014). Here a grid of the
normal distribution's quantiles is decoded.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm
from sklearn.datasets import load_digits

from eigencode import VariationalAutoencoder

X, y = load_digits(return_X_y=True)
model = VariationalAutoencoder(2, hidden=(128, 64), max_epochs=80, random_state=0).fit(
    X
)

# %%
# Left: the means of the digits' codes, coloured by class, which was not used in training. Right: g(z) over the plane.

codes = model.transform(X)
quantiles = norm.ppf(np.linspace(0.03, 0.97, 14))
grid = np.stack(np.meshgrid(quantiles, quantiles[::-1]), axis=-1).reshape(-1, 2)
images = model.inverse_transform(grid).reshape(14, 14, 8, 8)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
points = left.scatter(*codes.T, c=y, cmap="tab10", s=6)
left.set(xlabel="z1", ylabel="z2", aspect="equal")
figure.colorbar(points, ax=left, label="class", ticks=range(10), shrink=0.7)
right.imshow(
    images.transpose(0, 2, 1, 3).reshape(112, 112), cmap="gray_r", vmin=0, vmax=16
)
right.axis("off")

# %%
# The variance of all codes is about that of the prior, which is 1: it is the variance of the means plus the mean
# variance of the posteriors.

mean, deviation = model.posterior(X)
total = mean.var(0) + (deviation**2).mean(0)
print(f"variance of the aggregated posterior: {total.round(2)}")
assert (abs(total - 1) < 1).all()
