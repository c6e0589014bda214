r"""Conditional draws: cells of rows drawn given the others, from the model's own density of rows.

A code is drawn from p(z | x_known), and the missing cells from p(x | z). The posterior of codes is often so narrow that
none of thousands of draws from the density of codes is in it. So a few of such draws are chosen by their p(x_known | z)
and moved by Newton's method to where the density N_c of the Gaussian that they belong to, times p(x_known | z), is
largest. Codes are then proposed by a normal density around each of these centers, with the precision

.. math:: H = \Sigma_c^{-1} - J^\top \nabla^2 \log p(x_{known} | o) \, J

where J is the Jacobian of the decoder's output o, and drawn by their weights N_c(z) p(x_known | z) / (N(z) s), with s
the probability that the center was chosen. The weights of proposals of one Gaussian are equal where the decoder is
linear and the columns are normal: the draws are then exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from eigencode import parts, training
from eigencode.batch import Batch, selected
from eigencode.data.gaps import hide_gaps
from eigencode.data.sources import chunk_rows
from eigencode.lazy import torch
from eigencode.model import Mixture

if TYPE_CHECKING:
    from torch import Tensor

    from eigencode.data.scaling import Scaler
    from eigencode.model import Composition
    from eigencode.parts import Likelihood, Prior

N_CODES = 1024
"""Codes that are compared with each row."""

CENTERS = 16
"""Of these, the best ones, from which Newton's method begins."""

STEPS = 1
"""Steps of Newton's method before the last one, which is to the centers of the proposals."""

PROPOSALS = 64
"""Fewest proposals of a row; for many draws there are four times as many."""

MOST_PROPOSALS = 1024
"""Most proposals of a row."""

SHORTER = 0.25
"""Length of a step that replaces one to a smaller density."""

DIFFERENCE = 1e-6
"""Difference of codes, beside their spread, for the decoder's derivative."""

WORK_NUMBERS = 2**22
"""Numbers at a time, about."""


@dataclass(frozen=True, eq=False)
class ConditionalSampler:
    """Draws of rows given some of their cells.

    Attributes
    ----------
    model : Composition
        The model, in float64.
    likelihood : Likelihood
        The likelihood by which codes are compared with rows.
    density : Mixture
        The density of codes.
    codes : Tensor of shape (m, k)
        Draws from it.
    """

    model: Composition
    likelihood: Likelihood
    density: Mixture
    codes: Tensor

    @cached_property
    def _outputs(self) -> Tensor:
        return self.model.decoder(self.codes)

    @cached_property
    def _normals(self) -> _Normals:
        """The Gaussian that each code belongs to."""
        number = self.density.log_joint(self.codes.cpu().numpy()).argmax(1)
        roots = np.linalg.cholesky(np.linalg.inv(self.density.covariances))[self.density.groups[number]]
        return _Normals(*(torch.from_numpy(array).to(self.codes) for array in (self.density.means[number], roots)))

    def rows_like(self, array: np.ndarray, scaler: Scaler, seed: int, mean: bool) -> Iterator[Tensor]:
        """Draws, or means given the code, of rows whose known cells an array has, in tensors of shape (b, d)."""
        device, n_rows = self.codes.device, chunk_rows(array.shape[1])
        for number, first in enumerate(range(0, len(array), n_rows)):
            scaled = torch.from_numpy(scaler.transform(array[first : first + n_rows].astype(np.float64)))
            source = training.generator(seed, "given", number, device=device)
            yield self.draws(hide_gaps(scaled.to(device)), 1, source, mean)[0]

    def draws(self, rows: Batch, n_draws: int, source: torch.Generator, mean: bool = False) -> Tensor:
        """Draws of all cells given the known ones, or their means given the code, shape (m, n, d)."""
        d, k, n_proposals = self.model.n_features, self.codes.shape[1], self._n_proposals(n_draws)
        work = max(len(self.codes) * d, CENTERS * k * (d + k), n_proposals * (d + CENTERS))
        n_rows = max(WORK_NUMBERS // work, 1)
        rows = rows.map(lambda part: part.double() if part.is_floating_point() else part)
        parts = (rows.map(itemgetter(slice(first, first + n_rows))) for first in range(0, len(rows), n_rows))
        return torch.cat([self._draws(part, n_draws, source, mean) for part in parts], dim=1)

    @staticmethod
    def _n_proposals(n_draws: int) -> int:
        """How many proposals around each center there are."""
        return min(max(4 * n_draws, PROPOSALS), MOST_PROPOSALS)

    def _draws(self, rows: Batch, n_draws: int, source: torch.Generator, mean: bool) -> Tensor:
        target = self.model.likelihood.target(*rows.cells)
        z, weights = self._proposals(rows, target, self._n_proposals(n_draws), source)
        has_answer = weights.isfinite().all(1)  # not with cells so large that all densities are 0
        weights = weights.where(has_answer[:, None], 1.0)
        chosen = torch.multinomial(weights, n_draws, replacement=True, generator=source).T
        p = self.model.decode(z.gather(0, chosen[..., None].expand(-1, -1, z.shape[-1])))
        found = p.mean if mean else p.sample(source)
        return found.where(has_answer[:, None], torch.nan)

    def _proposals(
        self, rows: Batch, target: Tensor, n_proposals: int, source: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Codes of shape (m, n, k) for each row, and the probability of each, shape (n, m)."""
        chosen, log_shares = self._chosen(rows, target, source)
        z, normals = self.codes[chosen], self._normals.chosen(chosen)
        for _ in range(STEPS):
            moved, _, before = self._newton(z, normals, rows, target)
            is_better = normals.log_prob(moved) + self._log_likelihood(moved, rows, target) >= before
            z = z + torch.where(is_better[..., None], 1.0, SHORTER) * (moved - z)
        centers = self._newton(z, normals, rows, target)[:2]
        shape = -(-n_proposals // len(z)), *z.shape
        noise = torch.randn(shape, generator=source, device=z.device, dtype=z.dtype)
        proposals = _Normals(*centers)
        z = proposals.at(noise)
        log_weights = normals.log_prob(z) - proposals.log_prob(z) - log_shares
        z = z.flatten(0, 1)
        log_weights = log_weights.flatten(0, 1) + self._log_likelihood(z, rows, target)
        return z, log_weights.softmax(0).T

    def _chosen(self, rows: Batch, target: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """The numbers of codes drawn by p(x_known | z) without replacement, and the logarithms of their probabilities.

        The largest of scores with Gumbel noise are such a draw. Given the largest of the others, each is in it by
        itself with the probability that is given here (Kool, van Hoof & Welling, 2019); shapes (c, n).
        """
        p = self.likelihood(self._outputs[:, None].expand(-1, len(rows), -1))
        scores = rows.selected(p.log_prob(target.expand(len(self.codes), -1, -1))).sum(-1)
        uniform = torch.rand(scores.shape, generator=source, device=scores.device, dtype=scores.dtype)
        noisy, numbers = (scores - (-uniform.clamp(min=1e-300).log()).log()).topk(CENTERS + 1, dim=0)
        above = scores.gather(0, numbers[:-1]) - noisy[-1]
        return numbers[:-1], (-(-above.exp()).expm1()).log()

    def _newton(self, z: Tensor, normals: _Normals, rows: Batch, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes after a step, the root of the precision at those before, and the logarithm of their joint density."""
        gradient, information, log_likelihood = self._expansion(z, rows, target)
        prior = normals.root @ normals.root.mT
        root, failure = torch.linalg.cholesky_ex(prior + information)
        root = root.where((failure == 0)[..., None, None], normals.root)
        pull = (prior @ (z - normals.mean)[..., None])[..., 0]
        move = torch.cholesky_solve((gradient - pull)[..., None], root)[..., 0]
        return z + move, root, normals.log_prob(z) + log_likelihood

    def _log_likelihood(self, z: Tensor, rows: Batch, target: Tensor) -> Tensor:
        """The logarithm of p(x_known | z), shape (m, n)."""
        return rows.selected(self.model.decode(z).log_prob(target.expand(len(z), -1, -1))).sum(-1)

    def _expansion(self, z: Tensor, rows: Batch, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient, shape (m, n, k), and information, (m, n, k, k), of log p(x_known | z), and its value."""
        step = DIFFERENCE * self.codes.std(0).clamp(min=1e-12)
        moved = torch.cat([z[None], z + torch.diag_embed(step)[:, None, None]])
        output, *others = self.model.decoder(moved.flatten(0, -2)).unflatten(0, moved.shape[:-1])
        slopes = torch.stack([(other - output) / step[i] for i, other in enumerate(others)])
        with torch.inference_mode(False), torch.enable_grad():
            at, rows, target = output.clone().requires_grad_(), rows.map(torch.clone), target.clone()
            p = self.model.likelihood(at)
            density = selected(p.log_prob(target.expand(len(z), -1, -1)), rows.observed).sum(-1)
            (first,) = torch.autograd.grad(density.sum(), at, create_graph=True)
            curved = torch.stack([self._second(first, at, slope.clone()) for slope in slopes])
        gradient = torch.einsum("i...o,...o->...i", slopes, first.detach())
        information = -torch.einsum("i...o,j...o->...ij", slopes, curved)
        return gradient, (information + information.mT) / 2, density.detach()

    @staticmethod
    def _second(first: Tensor, at: Tensor, slope: Tensor) -> Tensor:
        """The derivative of the gradient along a slope; the squared gradient where there is none, as of Laplace's."""
        found = torch.zeros_like(slope)
        if first.requires_grad:
            found = torch.autograd.grad(first, at, slope, retain_graph=True)[0]
        return torch.where(found == 0, -first.detach().square() * slope, found)


@dataclass(frozen=True)
class _Normals:
    """Normal densities: means of shape (..., k), and the Cholesky roots of their precisions, shape (..., k, k)."""

    mean: Tensor
    root: Tensor

    def chosen(self, index: Tensor) -> _Normals:
        """Some of them."""
        return _Normals(self.mean[index], self.root[index])

    def at(self, noise: Tensor) -> Tensor:
        """The draws that standard normal noise makes."""
        return self.mean + torch.linalg.solve_triangular(self.root.mT, noise[..., None], upper=True)[..., 0]

    def log_prob(self, z: Tensor) -> Tensor:
        """The logarithm of the densities, up to a constant."""
        whitened = torch.einsum("...i,...ij->...j", z - self.mean, self.root)
        return self.root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 0.5 * whitened.square().sum(-1)


def gaussians_of(prior: Prior | None, codes: Tensor) -> Mixture:
    """The Gaussians of a prior; of another prior one with the moments of its codes."""
    if isinstance(prior, parts.MixturePrior):
        return Mixture(*(part.detach().cpu().numpy() for part in prior.gaussians))
    rows, k = codes.cpu().numpy(), codes.shape[1]
    if isinstance(prior, parts.StandardNormalPrior):
        return Mixture(np.ones(1), np.zeros((1, k)), np.eye(k)[None])
    return Mixture(np.ones(1), rows.mean(0)[None], np.cov(rows.T).reshape(1, k, k))
