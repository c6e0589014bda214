r"""
Generative and discriminative classifiers
=========================================

A generative classifier learns a density for each class and classifies by Bayes' rule,

.. math:: p(c | x) \propto p(c) \, p(z | c), \qquad z = f(x),

a discriminative one learns only p(c | x). With few labels, the first is often better, since its assumptions replace
missing labels; with many labels, the second is as good or better (Ng & Jordan, 2002). Here both use the same codes,
learned from all training rows without labels.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eigencode import Autoencoder

X, y = load_digits(return_X_y=True)
train, test, y_train, y_test = train_test_split(
    X, y, test_size=0.4, stratify=y, random_state=0
)
model = Autoencoder(10, hidden=(64,), max_epochs=40, random_state=0).fit(train)

# %%
# ``fit_density`` is called ten times, for one mixture of Gaussians on the codes of each class.


def bayes(rows, labels):
    """A classifier with a density of codes for each class."""
    densities = [
        copy.deepcopy(model).fit_density(rows[labels == c]).mixture_ for c in range(10)
    ]
    priors = np.log(np.bincount(labels, minlength=10) / len(labels))

    def predict(new):
        codes = model.transform(new)
        return (
            priors
            + np.stack([density.log_prob(codes) for density in densities], axis=1)
        ).argmax(1)

    return predict


def discriminative(rows, labels):
    """Logistic regression on the codes."""
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(
        model.transform(rows), labels
    )
    return lambda new: head.predict(model.transform(new))


sizes = [3, 6, 12, 25, 50, 100]
curves = {
    "generative: densities and Bayes' rule": [],
    "discriminative: logistic regression": [],
}
rng = np.random.default_rng(0)
for size in sizes:
    some = np.concatenate(
        [rng.permutation(np.flatnonzero(y_train == c))[:size] for c in range(10)]
    )
    for name, learn in zip(curves, (bayes, discriminative), strict=True):
        curves[name].append(
            100 * (learn(train[some], y_train[some])(test) != y_test).mean()
        )

# %%
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, errors in curves.items():
    axis.plot(sizes, errors, marker="o", label=name)
axis.set(xscale="log", xlabel="labelled rows per class", ylabel="error on test rows, %")
axis.legend()
for name, errors in curves.items():
    print(f"{name:40s}", " ".join(f"{error:5.1f}" for error in errors))
