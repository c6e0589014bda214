"""Autoencoder: plain by default; with other terms it is any autoencoder of the formula."""

from __future__ import annotations

from dataclasses import dataclass

from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import documented


@documented
@dataclass(eq=False, repr=False)
class Autoencoder(BaseAutoencoder):
    r"""A network that learns a code of the rows of a table: z = f(x), x^ = g(z).

    It minimises the mean over rows of

    .. math:: -\log p(x \mid z = f(x)) = \lVert x - g(f(x)) \rVert^2 + \mathrm{const}

    for scaled rows x. Undercomplete and linear, it spans the subspace of the principal components (Baldi & Hornik,
    1989); its nonlinear layers generalise that. By default it starts at PCA exactly, and the weights it keeps are
    never worse than that start on its validation rows. Other terms of the formula (code, likelihood, corruption, prior,
    penalties) make it any other autoencoder.

    {parameters}

    Attributes
    ----------
    composition_ : Composition
        The trained network, a plain torch module on scaled rows.
    n_components_, hidden_, scale_, init_, optimizer_ : int, tuple, str, str, str
        The values in use, with 'auto' resolved. ``hidden_`` is () if both networks are the user's.
    n_validation_ : int or None
        Number of validation rows of the fit; 0 without any, as in a stream; None for a model from a file of an earlier
        format.
    history_ : list of dict
        One row an evaluation, the start's first; evaluations come after each epoch, or after each 1,024 steps of a
        longer one. ``epoch`` (begun so far), ``step``, ``rows`` (seen so far), ``seconds`` (since training began; files
        have none), ``learning_rate``, ``training_objective`` (on the rows seen since the last evaluation),
        ``validation_objective`` (on the training rows if there are none for validation), and each of its terms if there
        are several, as ``validation_reconstruction`` and ``validation_divergence``. Objectives are in nats a row of
        scaled data. A block of a stream has a row without ``learning_rate`` and what begins with ``validation``.
    best_epoch_ : int
        The epoch in which the weights were kept; 0 is the start.
    best_objective_ : float
        Their mean objective on the validation rows; on the training rows if there are none for validation, or on the
        last block of a stream.
    notes_ : list of str
        Sentences on possible problems; empty if there are none.
    baseline_ : Autoencoder or None
        The fitted linear model with the same terms on the same scaled rows (PCA for the plain one); None if its
        optimum is not known in closed form.
    explained_variance_ratio_ : list of float
        Share of the scaled rows' variance along each of the first ``n_components_`` principal components.
    scaler_ : Scaler
        Centre and divisor of each column.
    execution_ : Execution
        Device, precision and threads chosen for training.
    seed_ : int
        The seed of all random numbers.
    mean_weight_ : float
        Mean weight of the rows fitted, the unit of the weights of later blocks; 1 without weights.
    columns_ : Schema or None
        What each column of a frame is, and why: ``print(model.columns_)``. None if fitted on an array.
    n_features_in_, feature_names_in_
        Number and names of the columns, as everywhere in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from eigencode import Autoencoder
    >>> X = load_wine().data
    >>> model = Autoencoder(n_components=2, random_state=0).fit(X)
    >>> model.transform(X).shape
    (178, 2)
    >>> bool(
    ...     model.reconstruction_error(X).mean()
    ...     <= model.baseline_.reconstruction_error(X).mean()
    ... )
    True
    """
