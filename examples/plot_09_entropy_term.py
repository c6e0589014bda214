r"""
The effect of the entropy term
==============================

The bound can be written with the posterior's entropy,

.. math:: E_q [ \log p(x, z) ] + H(q(z|x)).

Without H(q), a wide posterior has no advantage: the best q is a point, and the variational autoencoder becomes an
ordinary one with a quadratic penalty on its codes. The entropy makes the posterior as wide as the reconstruction
allows.
"""

import math

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from eigencode import Autoencoder
from eigencode.parts import GaussianCode, GaussianLikelihood, StandardNormalPrior

X = load_digits().data


class WithoutEntropy(StandardNormalPrior):
    """The cross-entropy -E log p(z): the divergence without -H(q)."""

    def divergence(self, q, z):
        return 0.5 * (q.mean.square() + q.variance + math.log(2 * math.pi)).sum(-1)

    def linear_start(self, problem):
        return None


options = {
    "code": GaussianCode(),
    "likelihood": GaussianLikelihood("learned"),
    "init": "random",
    "max_epochs": 120,
}
whole = Autoencoder(4, prior=StandardNormalPrior(), random_state=0, **options).fit(X)
without = Autoencoder(4, prior=WithoutEntropy(), random_state=0, **options).fit(X)

# %%
# The width of the posterior of each row, in each of the four components.


def widths(model):
    scaled = model.scaler_.transform(X).astype("float32")
    q = model.composition_.encode(
        model.composition_.encoder.layers[0].weight.new_tensor(scaled)
    )
    return q.variance.sqrt().detach().numpy().ravel()


figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, model in [("with H(q)", whole), ("without", without)]:
    axis.hist(
        widths(model),
        bins=[10 ** (e / 10) for e in range(-70, 5)],
        alpha=0.7,
        label=name,
    )
axis.set(
    xscale="log", xlabel="posterior standard deviation", ylabel="rows and components"
)
axis.legend()

ratio = float(widths(without).mean() / widths(whole).mean())
print(f"without the entropy the posterior is {1 / ratio:.0f} times narrower")
assert ratio < 0.2
