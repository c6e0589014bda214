r"""
One number is enough to copy the training rows
==============================================

A code of one number is no restriction if encoder and decoder are flexible enough: the encoder can map row i to the
number i, and the decoder can map this number to the row. Such an autoencoder is undercomplete and reconstructs the
training rows, but has learned nothing about the data: on other rows it is worse than PCA with one component.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import Autoencoder

train, test = train_test_split(load_digits().data, train_size=20, random_state=0)
model = Autoencoder(
    1,
    hidden=(128,),
    init="random",
    optimizer="lbfgs",
    validation_fraction=0,
    max_epochs=200,
    random_state=0,
).fit(train)
pca = Autoencoder(1, hidden=(), max_epochs=0).fit(train)

# %%
# There are no validation rows here, so training did not stop early. By default, a tenth of the rows are for validation,
# and the start, which is PCA, is kept if the network is not better on them.

figure, axes = plt.subplots(
    3, 9, figsize=(9, 3.4), layout="constrained", width_ratios=[1] * 4 + [0.4] + [1] * 4
)
names = ["row", "one code", "PCA, one code"]
for axis in axes.flat:
    axis.axis("off")
for first, rows, title in [(0, train, "trained on"), (5, test, "other rows")]:
    for line, shown in enumerate(
        [rows[:4], model.reconstruct(rows[:4]), pca.reconstruct(rows[:4])]
    ):
        for axis, image in zip(axes[line, first : first + 4], shown, strict=True):
            axis.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
    axes[0, first + 1].set_title(title)
for line, name in enumerate(names):
    axes[line, 0].text(-1.5, 4, name, ha="right", va="center")

# %%
# The squared error per image:

for name, rows in [("trained on", train), ("other rows", test)]:
    errors = [fitted.reconstruction_error(rows).mean() for fitted in (model, pca)]
    print(f"{name}: network {errors[0]:.1f}, PCA {errors[1]:.1f}")
assert (
    model.reconstruction_error(train).mean()
    < 0.5 * pca.reconstruction_error(train).mean()
)
assert model.reconstruction_error(test).mean() > pca.reconstruction_error(test).mean()
