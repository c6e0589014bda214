r"""
Overcomplete codes copy without a regulariser
=============================================

With as many code units as columns, an autoencoder can be the identity: its reconstruction is perfect, but it has
learned nothing about the data, since it reconstructs noise equally well. Not the size of the code but a regulariser
prevents this: here corrupted inputs (Vincent et al., 2008), or a fixed number of active units in each code (Makhzani &
Frey, 2013).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import Autoencoder, DenoisingAutoencoder, SparseAutoencoder

train, test = train_test_split(load_digits().data, test_size=0.25, random_state=0)
noise = np.random.default_rng(0).permuted(test, axis=0)  # each pixel from another image

models = {
    "no regulariser": Autoencoder(100, hidden=(), max_epochs=60, random_state=0),
    "denoising": DenoisingAutoencoder(
        100, hidden=(), noise="masking", level=0.5, max_epochs=60, random_state=0
    ),
    "sparse, 8 active": SparseAutoencoder(
        100, sparsity="top_k", active=8, max_epochs=60, random_state=0
    ),
}
for model in models.values():
    model.fit(train)

# %%
# Each image above its reconstructions: four digits that were not in training, and four images of shuffled pixels.

figure, axes = plt.subplots(4, 8, figsize=(8, 4.2), layout="constrained")
shown = np.concatenate([test[:4], noise[:4]])
for line, (name, images) in zip(
    axes,
    {
        "image": shown,
        **{name: model.reconstruct(shown) for name, model in models.items()},
    }.items(),
    strict=True,
):
    line[0].text(-1.5, 4, name, ha="right", va="center")
    for axis, image in zip(line, images, strict=True):
        axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axis.axis("off")

# %%
# The errors on digits and on shuffled pixels: the model that copies has small errors on both.

for name, model in models.items():
    digits, shuffled = (
        model.reconstruction_error(rows).mean() for rows in (test, noise)
    )
    print(f"{name:18s} digits {digits:7.1f}, shuffled {shuffled:7.1f}")
copied, denoised, sparse = (
    model.reconstruction_error(noise).mean() for model in models.values()
)
assert copied < 0.1 * min(denoised, sparse)
