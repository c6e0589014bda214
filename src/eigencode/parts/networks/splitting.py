"""Douglas-Rachford splitting: the iteration that finds sparse codes of rows for one dictionary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

RELAXATION = 1.8
"""Length of a step of the splitting, from 1 to below 2: 1.6 and 1.9 take up to a fifth more iterations."""

MOST_FURTHER = 1500
"""Most further iterations in evaluation."""

CHECKED_EVERY = 5
"""Iterations in evaluation after which it is checked whether all is done."""


@dataclass(frozen=True, eq=False)
class Splitting:
    """The iteration of some rows.

    Attributes
    ----------
    sparse : callable
        The sparse code nearest to w, shape (n, k).
    kept, ridge : Tensor
        S - 1/2, where S is the share of codes that ridge regression keeps, shape (k, k), and its codes, shape (n, k).
    of_units, chosen : callable and Tensor, optional
        The code of units that are chosen, and which ones these are, shape (n, k), if they stay as they are.
    """

    sparse: Callable[[Tensor], Tensor]
    kept: Tensor
    ridge: Tensor
    of_units: Callable[[Tensor, Tensor], Tensor] | None = None
    chosen: Tensor | None = None

    def code_of(self, w: Tensor) -> Tensor:
        """The codes h."""
        return self.sparse(w) if self.of_units is None or self.chosen is None else self.of_units(self.chosen, w)

    def moved(self, w: Tensor, h: Tensor) -> Tensor:
        """After one iteration."""
        twice = torch.sub(w, h, alpha=2)
        moved = torch.addmm(self.ridge, twice, self.kept, beta=RELAXATION, alpha=RELAXATION)
        return moved.add(w, alpha=1 - RELAXATION / 2)

    def after(self, n_steps: int, w: Tensor) -> Tensor:
        """After so many iterations."""
        for _ in range(n_steps):
            w = self.moved(w, self.code_of(w))
        return w

    def of_rows(self, rows: Tensor) -> Splitting:
        """The iteration of some of the rows."""
        return replace(self, ridge=self.ridge[rows], chosen=None if self.chosen is None else self.chosen[rows])


def ridge_regression(columns: Tensor, x: Tensor, ridge: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    r"""The codes of rows x by ridge regression, and what it keeps of codes, by a decomposition of D's smaller size.

    .. math:: (D'D + \rho)^{-1} D' x, \qquad S = (D'D + \rho)^{-1} D'D = D' (D D' + \rho)^{-1} D

    Examples
    --------
    >>> ridge_regression(torch.tensor([[3.0]]), torch.tensor([[1.0]]))
    (tensor([[0.3000]]), tensor([[0.9000]]))
    >>> ridge_regression(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0]]))
    (tensor([[0.1667, 0.3333]]), tensor([[0.1667, 0.3333],
            [0.3333, 0.6667]]))
    """
    is_wide = columns.shape[0] < columns.shape[1]
    gram = (columns @ columns.T if is_wide else columns.T @ columns).to(columns)
    # Not cholesky, which reads whether it has failed, so that a step could not be recorded.
    root = torch.linalg.cholesky_ex(gram + ridge * eye_like(gram)).L
    half = torch.linalg.solve_triangular(root, columns if is_wide else eye_like(gram), upper=False)
    square = half.T @ half
    if is_wide:
        return torch.linalg.solve_triangular(root, x.T, upper=False).T @ half, square
    return x @ columns @ square, eye_like(gram) - ridge * square.to(gram)


def eye_like(square: Tensor) -> Tensor:
    """The unit matrix of a size."""
    return torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)


def until_fixed(splitting: Splitting, w: Tensor) -> Tensor:
    """The codes after iterations until a step changes a row by no more than rounding, at most so many.

    Rows that are fixed are left out once they are half of those that are left.
    """
    if torch.compiler.is_compiling():
        return splitting.code_of(_looped(splitting, w))
    rows = torch.arange(len(w), device=w.device)
    numbers, codes = [], []
    for i in range(MOST_FURTHER):
        h = splitting.code_of(w)
        new = splitting.moved(w, h)
        fixed = _OfAllMembers.apply(_are_fixed(w.detach(), new.detach())) if i % CHECKED_EVERY == 0 else None
        w = new
        if fixed is not None and 2 * int(fixed.sum()) >= len(rows):
            numbers.append(rows[fixed])
            codes.append(h[fixed])
            rows, w, splitting = rows[~fixed], new[~fixed], splitting.of_rows(~fixed)
            if not len(rows):
                break
    else:
        numbers.append(rows)
        codes.append(splitting.code_of(w))
    return codes[0] if len(codes) == 1 else torch.cat(codes)[torch.cat(numbers).argsort()]


def _looped(splitting: Splitting, start: Tensor) -> Tensor:
    """The rows after the iterations, as a loop of a graph; hundreds one after the other would take minutes."""
    from torch._higher_order_ops import while_loop  # with torch's compiler, which an export has imported

    def goes_on(i: Tensor, moves: Tensor, w: Tensor) -> Tensor:
        return moves & (i < MOST_FURTHER)

    def several(i: Tensor, moves: Tensor, w: Tensor) -> tuple[Tensor, ...]:
        new = splitting.after(1, w)
        moves = ~_are_fixed(w, new).all()
        new = splitting.after(CHECKED_EVERY - 1, new)
        return i + CHECKED_EVERY, moves, torch.where(moves, new, w)

    first = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool), start
    found: Tensor = while_loop(goes_on, several, first)[2]
    return found


def _are_fixed(before: Tensor, new: Tensor) -> Tensor:
    """Whether a step changed a row by no more than rounding, shape (n,)."""
    return (new - before).norm(dim=1) <= 8 * torch.finfo(new.dtype).eps * new.norm(dim=1)


class _OfAllMembers(torch.autograd.Function):
    """Whether something holds for all members of a vmap, as values that may be read, shape (n,)."""

    @staticmethod
    def forward(holds: Tensor) -> Tensor:
        return holds.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], holds: Tensor) -> tuple[Tensor, None]:
        return _OfAllMembers.apply(holds.movedim(in_dims[0] or 0, 0).all(0)), None
