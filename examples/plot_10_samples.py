r"""
Drawing new rows
================

A variational autoencoder draws from its density, z ~ N(0, I), x ~ p(x|z). Other autoencoders can draw after a density
is fitted to their codes: ``fit_density`` fits a mixture of Gaussians, and chooses the number of components by the
likelihood of validation rows (Ghosh et al., 2020), or takes a Gaussian around each code where that is better.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from eigencode import Autoencoder, LinearAutoencoder, VariationalAutoencoder

X = load_digits().data
models = {
    "PCA": LinearAutoencoder(8).fit(X).fit_density(X),
    "Autoencoder": Autoencoder(8, hidden=(128,), max_epochs=60, random_state=0)
    .fit(X)
    .fit_density(X),
    "VariationalAutoencoder": VariationalAutoencoder(
        8, hidden=(128,), max_epochs=80, random_state=0
    ).fit(X),
}

# %%
# Twelve real digits, and ``sample(12, mean=True)`` of each model, the mean of p(x|z). With noise, the images are
# grainy, since the pixels are independent given the code.

figure, axes = plt.subplots(4, 12, figsize=(10, 3.6), layout="constrained")
lines = {"real": X[:12]} | {
    name: model.sample(12, mean=True, random_state=3) for name, model in models.items()
}
for line, (name, images) in zip(axes, lines.items(), strict=True):
    line[0].text(-2, 4, name, ha="right", va="center")
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.axis("off")

# %%
# The distance of a drawn image from the nearest real one, which should be about the distance between real ones.

from sklearn.neighbors import NearestNeighbors

neighbours = NearestNeighbors(n_neighbors=2).fit(X)
print(f"real      {neighbours.kneighbors(X)[0][:, 1].mean():.1f}")
for name, model in models.items():
    distance = neighbours.kneighbors(model.sample(500, mean=True, random_state=0))[0][
        :, 0
    ].mean()
    print(
        f"{name:24s} {distance:.1f}, "
        f"{model.mixture_.n_components if hasattr(model, 'mixture_') else 'its prior'}"
    )
