"""NearestIndex: the nearest of many rows by an index of faiss, which looks at a part of them.

The rows are divided into about sqrt(n) cells by k-means, and a row is compared with those of the nearest 32 cells
(an inverted file; Jégou et al., 2011). So a neighbour may be missed, and then the next one is taken for it. Distances
are computed again in float64. The index is made of the rows when it is first asked; no file has it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np

from eigencode.errors import OptionError

MOST_EXACT = 10_000
"""Rows up to which the nearest are found exactly, without an index."""

PROBED = 32
"""Cells whose rows a row is compared with."""

LARGEST = 1e15
"""Largest cell in the index, whose numbers are of float32: squares of larger ones are infinite."""


class NearestIndex:
    """The nearest k of rows of shape (n, d), in about 4 bytes a cell beside the rows themselves."""

    def __init__(self, rows: np.ndarray, k: int) -> None:
        require_faiss()
        self.rows, self.k, faiss = rows, k, import_module("faiss")
        cells = _as_float32(rows)
        n_cells = max(round(len(rows) ** 0.5), 1)
        self._quantizer = faiss.IndexFlatL2(rows.shape[1])
        self._index = faiss.IndexIVFFlat(self._quantizer, rows.shape[1], n_cells)
        self._index.train(cells)
        self._index.add(cells)
        self._index.nprobe = PROBED

    def kneighbors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As that of scikit-learn's `NearestNeighbors`, but for neighbours that are missed."""
        numbers = self._index.search(_as_float32(rows), self.k)[1]
        numbers = np.where(numbers < 0, numbers[:, :1].clip(0), numbers)  # fewer than k in the cells looked at
        found = [np.linalg.norm(rows - self.rows[numbers[:, j]], axis=1) for j in range(self.k)]
        return np.stack(found, axis=1), numbers


def require_faiss() -> None:
    """Raise an error of ours where faiss is not installed."""
    if find_spec("faiss") is None:
        what = f"Distances to more than {MOST_EXACT:,} rows take faiss"
        raise OptionError(what, got="none", hint="Install it with: pip install 'eigencode[index]'")


def _as_float32(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows.clip(-LARGEST, LARGEST), dtype=np.float32)
