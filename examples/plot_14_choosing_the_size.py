r"""
Choosing the size of the code
=============================

With a larger code, reconstructions always improve, and so do not show which size is enough. Kinds without a density are
compared by cells that are predicted from the other cells of their row. Here it is a density that shows it: each component
adds to the divergence :math:`D_{KL}(q(z|x), p(z))`, and the bound on :math:`\log p(x)` of validation rows
stops growing when a further component improves the reconstruction by less than this.

The mean :math:`\bar s_k` over folds has a standard error :math:`SE(\bar s_k)`. The one-standard-error rule (Breiman et
al., 1984) takes the smallest code whose mean is within one standard error of the best one:

.. math:: \hat k = \min \{ k : \bar s_k \ge \bar s_{k^*} - SE(\bar s_{k^*}) \} ,
   \qquad k^* = \underset{k}{\mathrm{arg\,max}} \; \bar s_k .
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from eigencode import AutoencoderSearch, VariationalAutoencoder
from eigencode.parts import GaussianLikelihood

X = load_digits().data
sizes = {"n_components": [2, 4, 6, 8, 10, 12, 16, 24]}
options = {
    "likelihood": GaussianLikelihood(),
    "random_state": 0,
}  # detail below its variance is noise
deep = VariationalAutoencoder(hidden=(64,), max_epochs=20, **options)
search = AutoencoderSearch(deep, sizes, cv=3, random_state=0).fit(X)
print(search.notes_, search.best_params_)

# %%
# Without hidden layers and epochs, the model stays at its linear start, PCA's directions with the same noise. A search
# on the same folds chooses more components, with a lower bound.

linear = VariationalAutoencoder(hidden=(), max_epochs=0, **options)
baseline = AutoencoderSearch(linear, sizes, cv=3, random_state=0).fit(X)

# %%
# ``eigencode.plots.SearchDisplay.from_estimator(search)`` draws one search; here are both.

figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, one in {"variational autoencoder": search, "PCA": baseline}.items():
    scores, errors = (
        one.cv_results_["mean_test_score"],
        one.cv_results_["standard_error"],
    )
    line, *_ = axis.errorbar(
        sizes["n_components"],
        scores,
        errors,
        marker="o",
        markersize=4,
        capsize=3,
        label=name,
    )
    best = np.argmax(scores)
    axis.axhline(scores[best] - errors[best], color=line.get_color(), ls="--", lw=0.8)
    axis.plot(
        one.best_params_["n_components"],
        one.best_score_,
        "*",
        color=line.get_color(),
        markersize=14,
    )
    print(
        f"{name:24s} {one.best_params_['n_components']:2d} components, "
        f"{one.best_score_:.1f} nats per image"
    )
axis.set(xlabel="components", ylabel="bound on log p(x), nats per image")
axis.annotate(
    "star: the choice", (0.98, 0.45), xycoords="axes fraction", ha="right", color="gray"
)
axis.legend(loc="lower right")
