r"""Closed-form starts: the linear optimum of an autoencoder's own kind.

With l_i, u_i the eigenvalues and eigenvectors of the scaled rows' covariance, the linear autoencoder that minimises
its objective keeps a share s_i of each leading direction,

.. math:: \hat x = U_k \, \mathrm{diag}(s) \, U_k^\top x ,

and every word of the formula says its own share: 1 for the plain one (PCA; Baldi & Hornik, 1989), l / (l + v) under
Gaussian noise of variance v, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from eigencode.composition import Composition
from eigencode.objectives import Objective

EXACT_SIZE = 2048
"""Up to this many columns or rows the spectrum is found by a full eigendecomposition, about a second's work."""

EXACT_PRODUCTS = 1e10
"""Up to this many multiply-adds the covariance is accumulated in float64 throughout, a fraction of a second's work."""


@dataclass(frozen=True)
class Spectrum:
    """Principal directions of centred rows.

    Attributes
    ----------
    eigenvalues : Tensor
        Variances along the leading directions, largest first, shape (m,).
    directions : Tensor
        Orthonormal columns, each with its largest entry positive, shape (d, m).
    total : float
        Variance over all directions.
    """

    eigenvalues: Tensor
    directions: Tensor
    total: float

    def n_components_for(self, share: float) -> int:
        """The smallest number of directions that keeps a share of the variance; at least 1."""
        if self.total == 0:
            return 1
        kept = self.eigenvalues.cumsum(0) / self.total
        # A share met to rounding is met: a full basis keeps all of the variance, not 1 - 1e-16 of it.
        return min(int((kept < share - 1e-9).sum()) + 1, len(kept))

    def explained_variance_ratio(self, n_components: int) -> list[float]:
        """Share of the variance along each of the leading directions."""
        return (self.eigenvalues[:n_components] / (self.total or 1.0)).tolist()


def spectrum(rows: Tensor, n_components: int | None, seed: int) -> Spectrum:
    """Principal directions of centred rows of shape (n, d), in float64.

    Small problems are solved exactly from the covariance (or, with fewer rows than columns, from the rows' inner
    products); large ones by randomised SVD (Halko et al., 2011) with its own seed.
    """
    n_rows, n_features = rows.shape
    if n_features <= min(EXACT_SIZE, max(n_rows, 256)):
        values, vectors = torch.linalg.eigh(_second_moment(rows))
        values, vectors = values.flip(0), vectors.flip(1)
        total = float(values.clamp(min=0).sum())
    elif n_rows <= EXACT_SIZE:
        values, left = torch.linalg.eigh(_second_moment(rows.T) * (n_features / n_rows))
        keep = values > values.max().clamp(min=torch.finfo(values.dtype).tiny) * 1e-12
        values, left = values[keep].flip(0), left[:, keep].flip(1)
        vectors = (rows.double().T @ left) / (values * n_rows).sqrt()
        total = float(values.sum())
    else:
        wanted = min(n_components or 256, *rows.shape)
        _, singular, right = randomized_svd(rows.numpy(), wanted, n_iter=4, random_state=seed % 2**32)
        values = torch.from_numpy(singular).double().square() / n_rows
        vectors = torch.from_numpy(right.T.copy()).double()
        total = float(rows.square().sum(1, dtype=torch.float64).sum() / n_rows)
    return Spectrum(values.clamp(min=0), _with_positive_peaks(vectors), total)


def linear_shares(composition: Composition, objective: Objective, eigenvalues: Tensor) -> Tensor | None:
    """The share kept of each direction at the linear optimum, or None where no closed form is known.

    A closed form is known where at most one word of the formula shrinks at all, or weighs directions by itself: two
    shrinkages do not multiply.
    """
    shares = torch.ones_like(eigenvalues)
    n_shrinking = 0
    for word in objective.words(composition):
        share = word.shrinkage(eigenvalues)
        if share is None:
            return None
        n_shrinking += bool((share != 1).any()) or word.reweights
        shares = shares * share
    return shares if n_shrinking <= 1 else None


@torch.no_grad()
def set_linear(composition: Composition, directions: Tensor, shares: Tensor, spare: bool = True) -> None:
    """Set both linear paths to x^ = U diag(s) U' x, balanced: A = diag(sqrt s) U', B = U diag(sqrt s).

    Codes past the known directions keep their random weights in the encoder and none in the decoder, so that they
    change nothing at first and can be learned; without ``spare`` they are zero, where a prior charges for weights.
    """
    n_known = len(shares)
    balanced = directions * shares.sqrt()
    encoder, decoder = composition.encoder.affine, composition.decoder.affine
    assert encoder is not None
    encoder.bias.zero_()
    encoder.weight[:n_known] = balanced.T.to(encoder.weight)
    if decoder is None or not spare:
        encoder.weight[n_known:] = 0
    if decoder is not None:  # tied ones follow by themselves
        decoder.weight.zero_()
        decoder.weight[:, :n_known] = balanced.to(decoder.weight)
    if composition.decoder.output_bias is not None:
        composition.decoder.output_bias.zero_()  # the rows are centred


def _second_moment(rows: Tensor, chunk: int = 16_384) -> Tensor:
    """X'X / n in float64; large products in the rows' own precision, summed over chunks in float64."""
    n_rows, n_features = rows.shape
    moment = torch.zeros(n_features, n_features, dtype=torch.float64)
    for part in rows.split(chunk):
        wide = part.double() if n_rows * n_features**2 < EXACT_PRODUCTS else part
        moment += wide.T @ wide
    return moment / rows.shape[0]


def _with_positive_peaks(vectors: Tensor) -> Tensor:
    """Flip each column so that its entry of largest size is positive."""
    peaks = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return vectors * torch.where(peaks < 0, -1.0, 1.0)
