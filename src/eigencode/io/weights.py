"""The weights of a composition: checked when they are written, and tested when they are read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from eigencode.errors import StorageError
from eigencode.io.earlier import filled
from eigencode.model.composition import Composition


def weights_of(composition: Composition) -> dict[str, Tensor]:
    """The weights of a composition by name; an error if one is not finite."""
    require_finite_state(composition)
    weights = composition.state_dict()
    if foreign := [name for name, value in weights.items() if not isinstance(value, Tensor)]:
        raise StorageError("The model has a state that is not a tensor", got=f"{foreign}")
    return weights


def restore_weights(composition: Composition, weights: Mapping[str, Tensor]) -> None:
    """Set a composition's weights; an error if they do not fit its parts, or if its output is not finite with them."""
    own = composition.state_dict()
    weights = filled(weights, own)
    _require_fitting(own, weights)
    composition.load_state_dict(weights)
    require_finite_state(composition)
    _try_out(composition.eval())


def _require_fitting(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raise an error unless the weights have the names, shapes and types of the parts'."""
    for name in sorted({*own, *saved}):
        wanted, found = (
            f"{str(side[name].dtype).removeprefix('torch.')} of shape {tuple(side[name].shape)}" if name in side else ""
            for side in (own, saved)
        )
        if wanted != found:
            got = f"{found or 'nothing'} for {name!r}, which should be {wanted or 'nothing'}"
            raise StorageError("The model's weights do not fit its parts", got=got)


def require_finite_state(composition: Composition) -> None:
    """Raise an error if weights are not finite, as after training that diverged.

    Buffers of modules of other packages are not checked: a running minimum, for example, starts at infinity.
    """
    tensors: dict[str, Tensor] = dict(composition.named_parameters())
    for name, module in composition.named_modules():
        if type(module).__module__.partition(".")[0] == "eigencode":
            tensors |= {f"{name}.{inner}": value for inner, value in module.named_buffers(recurse=False)}
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise StorageError("The model has weights that are not finite numbers", got=f"some in {name!r}")


@torch.no_grad()
def _try_out(composition: Composition) -> None:
    """Raise an error if a model's output is not finite for the mean row and for rows one scaled unit away from it.

    The log-density of the mean row may be minus infinity, as where a classifier was trained to huge codes.
    """
    d = composition.n_features
    dtype = next((p.dtype for p in composition.parameters()), torch.float32)
    rows = torch.tensor([0.0, 1.0, -1.0], dtype=dtype)[:, None].expand(3, d).contiguous()
    try:
        trace = composition(rows)
        answers = trace.z, trace.p.mean, trace.p.log_prob(trace.target)[:1].sum(-1).clamp(min=-1e30)
    except (RuntimeError, KeyError) as error:
        raise StorageError("The model's weights do not fit its parts", got=f"the error {error}") from error
    if not all(answer.isfinite().all() for answer in answers):
        raise StorageError("The model's output is not finite for rows near the mean")
