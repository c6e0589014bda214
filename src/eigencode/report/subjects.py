"""Subjects: which model a page or a picture is about."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from eigencode.errors import OptionError


def autoencoder_of(fitted: Any) -> Any:
    """The autoencoder of a fitted model: of a detector or a supervised model, the one in it.

    Raises
    ------
    OptionError
        If it is no model of this package.
    NotFittedError
        If it is not fitted.
    """
    require(hasattr(fitted, "report"), fitted, "an autoencoder, a detector or a supervised model")
    check_is_fitted(fitted)
    return getattr(fitted, "autoencoder_", fitted)


def require(is_subject: bool, given: Any, wanted: str) -> None:
    """Raise `OptionError` if what is given is not the model that is wanted."""
    if not is_subject:
        hint = "Give its best_estimator_" if hasattr(given, "best_estimator_") else None
        raise OptionError(f"Give {wanted} of this package, fitted", got=type(given).__name__, hint=hint)
