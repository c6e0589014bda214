"""Memory: work that would not fit is refused before anything is allocated for it."""

from __future__ import annotations

import psutil

from eigencode.errors import DataError


def require_memory(n_bytes: float, purpose: str, hint: str) -> None:
    """Refuse work that would not fit into the machine's memory, before anything is allocated for it.

    Parameters
    ----------
    n_bytes : float
        An estimate of what is needed.
    purpose : str
        Whose need it is, as the beginning of a sentence.
    hint : str
        What to try instead.
    """
    available = psutil.virtual_memory().available
    if n_bytes > available:
        raise DataError(
            f"{purpose} needs about {n_bytes / 1e9:.1f} GB", got=f"{available / 1e9:.1f} GB of memory", hint=hint
        )
