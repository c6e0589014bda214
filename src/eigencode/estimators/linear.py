"""LinearAutoencoder: PCA's neighbour, solved exactly or by gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

from eigencode.errors import OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import AutoencoderOptions, LinearOptions, documented


@documented
@dataclass(eq=False, repr=False)
class LinearAutoencoder(LinearOptions, BaseAutoencoder):
    r"""Linear encoder and decoder: x^ = B A x, for centred and scaled x.

    With squared error it spans the subspace of the first principal components (Baldi & Hornik, 1989). Every word of
    the formula that shrinks has its optimum in closed form, one share s_i kept of each principal direction u_i:

    .. math:: \hat x = \sum_{i \le k} s_i \, u_i u_i^\top x

    with s = 1 for PCA, l / (l + v) under Gaussian noise of variance v, and (1 - lambda / l)+ under a Gaussian prior
    on the weights with lambda = sigma_D^2 / (n sigma_w^2).

    {parameters}

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.decomposition import PCA
    >>> from eigencode import LinearAutoencoder
    >>> X = load_wine().data
    >>> model = LinearAutoencoder(2, scale="none").fit(X)
    >>> pca = PCA(2).fit(X)
    >>> bool(abs(model.reconstruct(X) - pca.inverse_transform(pca.transform(X))).max() < 1e-8)
    True
    """

    def _training_options(self) -> AutoencoderOptions:
        if self.hidden or self.encoder is not None or self.decoder is not None:
            raise OptionError("A LinearAutoencoder has no layers of its own to choose", hint="Use Autoencoder for that")
        if self.solver == "exact":
            return replace(self, start="linear", max_epochs=0)
        optimizer = "lbfgs" if self.optimizer == "auto" else self.optimizer
        return replace(self, start="plain" if self.start == "auto" else self.start, optimizer=optimizer)
