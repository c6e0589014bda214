r"""
Denoising filters by the level of noise
=======================================

A denoising autoencoder reconstructs the clean row from a corrupted one,

.. math:: \min \; E_{x} E_{\tilde x \sim C(\tilde x | x)} \lVert x - g(f(\tilde x)) \rVert^2 ,

so that it must learn the correlations of pixels. With more noise, it needs a larger neighbourhood of each pixel, and
its filters become wider (Vincent et al., 2010).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import DenoisingAutoencoder
from eigencode.parts import Point

X = load_digits().data
levels = [0.0, 0.5, 1.0, 2.0]
options = {
    "hidden": (),
    "code": Point("sigmoid"),
    "tied": True,
    "scale": "common",
    "max_epochs": 60,
    "random_state": 0,
}
models = [DenoisingAutoencoder(32, level=level, **options).fit(X) for level in levels]

# %%
# The weights of 16 of the 32 sigmoid units, at noise of 0, 1/2, 1 and 2 standard deviations of a pixel.


def filters(model):
    """The encoder's weights, a row for each unit, divided by its largest one."""
    weights = model.composition_.encoder.affine.weight.detach().numpy()
    return weights / abs(weights).max(axis=1, keepdims=True)


figure, axes = plt.subplots(4, 16, figsize=(10, 3), layout="constrained")
for line, level, model in zip(axes, levels, models, strict=True):
    line[0].text(-1.5, 4, f"noise {level:g}", ha="right", va="center")
    for axis, image in zip(line, filters(model), strict=False):
        axis.imshow(image.reshape(8, 8), cmap="RdBu_r", vmin=-1, vmax=1)
        axis.axis("off")

# %%
# The width of the filters, measured by the correlation of neighbouring weights:

for level, model in zip(levels, models, strict=True):
    images = filters(model).reshape(-1, 8, 8)
    pairs = np.corrcoef(images[:, :, 1:].ravel(), images[:, :, :-1].ravel())[0, 1]
    print(f"noise {level:3.1f}: correlation of neighbours {pairs:.2f}")
