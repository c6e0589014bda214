r"""
Deep and shallow networks with the same number of weights
=========================================================

One hidden layer can approximate any map, but may need very many units for it; several layers may need far fewer. Here
all networks have the same number of weights, the same learning rate and the same linear start, and differ only in
depth.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from eigencode import Autoencoder

train, test = train_test_split(load_digits().data, test_size=0.25, random_state=0)


def fitted(hidden):
    """A fitted model, its test error after each epoch, and its number of weights."""
    model = Autoencoder(4, hidden=hidden, max_epochs=60, random_state=0)
    curve = [model.reconstruction_error(test).mean() for _ in model.iter_fit(train)]
    return model, curve, sum(p.numel() for p in model.composition_.parameters())


widths = {
    "one hidden layer of 290": (290,),
    "two of 159 and 59": (159, 59),
    "three of 128, 68 and 40": (128, 68, 40),
}
results = {name: fitted(hidden) for name, hidden in widths.items()}

# %%
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, (_, curve, n_weights) in results.items():
    axis.plot(curve, label=f"{name}: {n_weights:,} weights")
axis.axhline(
    results["two of 159 and 59"][0].baseline_.reconstruction_error(test).mean(),
    color="gray",
    ls=":",
)
axis.annotate("PCA", (2, axis.lines[-1].get_ydata()[0]), va="top", color="gray")
axis.set(xlabel="epoch", ylabel="squared error per test image")
axis.legend()

for name, (model, _, n_weights) in results.items():
    print(
        f"{name:28s} {n_weights:7,d} weights: "
        f"{model.reconstruction_error(test).mean():.1f}"
    )
