r"""
Three kinds of noise
====================

A denoising autoencoder minimises

.. math:: E_{x} E_{\tilde x \sim C(\tilde x | x)} \left[ -\log p(x | z = f(\tilde x)) \right] ,

where C is any way to damage a row: Gaussian noise on each cell, salt and pepper, which sets a share of the cells to
their smallest or largest value, or masking, which hides a share of the cells (Vincent et al., 2010). A model is best at
the noise of its training: each of the three models is shown each of the three noises.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import DenoisingAutoencoder

train, test = train_test_split(load_digits().data, test_size=0.25, random_state=0)
levels = {"gaussian": 1.0, "salt_and_pepper": 0.3, "masking": 0.3}
options = {"hidden": (64,), "max_epochs": 40, "random_state": 0}
models = {
    noise: DenoisingAutoencoder(32, noise=noise, level=level, **options).fit(train)
    for noise, level in levels.items()
}

# %%
# Masking puts the mean of the column, where nothing is known, and salt and pepper the ends of its range.

rng = np.random.default_rng(0)
hit = rng.random(test.shape) < 0.3
damaged = {
    "gaussian": test + rng.normal(0, 4.3, test.shape),
    "salt_and_pepper": np.where(
        hit, np.where(rng.random(test.shape) < 0.5, train.min(0), train.max(0)), test
    ),
    "masking": np.where(hit, train.mean(0), test),
}

# %%
# From the top: the damaged digit, and what the models for Gaussian noise, salt and pepper, and masking make of it.

figure, axes = plt.subplots(4, 9, figsize=(9, 4), layout="constrained")
for axis in axes.flat:
    axis.axis("off")
for column, (noise, rows) in enumerate(damaged.items()):
    lines = [rows, *(model.denoise(rows) for model in models.values())]
    axes[0, 3 * column + 1].set_title(noise)
    for line, images in zip(axes, lines, strict=True):
        for axis, image in zip(line[3 * column : 3 * column + 3], images, strict=False):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
for line, name in zip(
    axes[:, 0], ["damaged", *(f"trained on {noise}" for noise in models)], strict=True
):
    line.text(-1, 4, name, ha="right", va="center")

# %%
# The squared error per image; the smallest of each column is on the diagonal.

errors = np.array(
    [
        [((m.denoise(rows) - test) ** 2).sum(1).mean() for rows in damaged.values()]
        for m in models.values()
    ]
)
print(f"{'trained on':16s}", "".join(f"{noise:>17s}" for noise in damaged))
for trained, row in zip(models, errors, strict=True):
    print(f"{trained:16s}", "".join(f"{error:17.1f}" for error in row))
assert (errors.argmin(axis=0) == range(3)).all()
