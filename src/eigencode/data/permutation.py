"""A random order of any number of rows that needs no memory: each row's number is computed from its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eigencode.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


ROUNDS = 4
"""Rounds after which a Feistel network is a random permutation for all purposes of shuffling (Luby & Rackoff, 1988)."""

MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
"""An odd number whose multiples are spread evenly, as a signed one of 64 bits."""


@dataclass(frozen=True)
class Permutation:
    """A random permutation of 0, ..., n - 1, by a Feistel network on pairs of digits.

    The two digits, each below the root of the smallest square that holds n, are mixed in turn; a number that comes out
    as n or more is sent through again, which ends since the map is one to one.

    Attributes
    ----------
    n : int
        How many numbers.
    key : int
        Names the permutation.

    Examples
    --------
    >>> order = Permutation(10, key=1)
    >>> sorted(order(torch.arange(10)).tolist()) == list(range(10))
    True
    """

    n: int
    key: int

    def __call__(self, positions: Tensor) -> Tensor:
        """The numbers at some positions, as int64 of their shape."""
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
        """Numbers from 0 to 2^31 that look random, for digits and a round."""
        mixed = (digits + (self.key + 1) * (number + 1)) * MULTIPLIER
        mixed = (mixed ^ (mixed >> 29)) * MULTIPLIER
        return (mixed ^ (mixed >> 32)) & 0x7FFFFFFF

    @property
    def _base(self) -> int:
        """The smallest number whose square is n at least."""
        base = int(self.n**0.5)
        while base * base < self.n:
            base += 1
        return max(base, 1)
