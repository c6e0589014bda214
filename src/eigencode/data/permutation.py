"""A random order of rows that needs no memory: each row's number is computed from its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


MOST_SHUFFLED_ROWS = 2**22
"""Most rows whose random order is stored, 32 MB; the order of more rows is computed."""

ROUNDS = 4
"""Rounds after which a Feistel network is random enough for shuffling (Luby & Rackoff, 1988)."""

MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
"""An odd number whose multiples are evenly distributed, as a signed integer of 64 bits."""

KEYS = 2**61 - 1
"""Bits of a key that are used, so that sums with it are numbers of 64 bits."""


@dataclass(frozen=True)
class Permutation:
    """A random permutation of 0, ..., n - 1, by a Feistel network on pairs of digits.

    A number has two digits in the base b, the smallest number with b^2 >= n; they are mixed in turn. A result of n or
    more is mapped again, which ends since the map is one to one.

    Attributes
    ----------
    n : int
        The number of elements.
    key : int
        The seed of the permutation.

    Examples
    --------
    >>> order = Permutation(10, key=1)
    >>> sorted(order(torch.arange(10)).tolist()) == list(range(10))
    True
    """

    n: int
    key: int

    def __call__(self, positions: Tensor) -> Tensor:
        """The numbers at these positions, as int64 of the same shape."""
        found = self._mixed(positions.to(torch.int64))
        while (outside := found >= self.n).any():
            found = torch.where(outside, self._mixed(found), found)
        return found

    def _mixed(self, numbers: Tensor) -> Tensor:
        """The network's permutation of the numbers below the square."""
        base = self._base
        left, right = numbers // base, numbers % base
        for number in range(ROUNDS):
            left, right = right, (left + self._hashed(right, number)) % base
        return left * base + right

    def _hashed(self, digits: Tensor, number: int) -> Tensor:
        """Pseudorandom numbers from 0 to 2^31 - 1, for digits and the number of the round."""
        mixed = (digits + ((self.key + 1) * (number + 1) & KEYS)) * MULTIPLIER
        mixed = (mixed ^ (mixed >> 29)) * MULTIPLIER
        return (mixed ^ (mixed >> 32)) & 0x7FFFFFFF

    @property
    def _base(self) -> int:
        """The smallest number whose square is at least n."""
        base = int(self.n**0.5)
        while base * base < self.n:
            base += 1
        return max(base, 1)
