"""Parts of supervised models, in which labels are the last columns of rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eigencode.batch import Batch
from eigencode.parts.base import Sizes
from eigencode.parts.distributions import Distribution
from eigencode.parts.likelihoods.base import Cell, Likelihood
from eigencode.parts.likelihoods.expansion import Expansion
from eigencode.parts.networks.base import Network
from eigencode.parts.networks.chains import Within
from eigencode.parts.penalties.base import Penalty
from eigencode.parts.weight_priors import GaussianWeights

if TYPE_CHECKING:
    from eigencode.model.composition import Composition, Trace
    from eigencode.model.initialization import LinearProblem


class FirstColumns(Within):
    """A network of the first columns only: the encoder of a row's features, without its labels.

    Parameters
    ----------
    network : Network
        The network.
    n_columns : int
        Number of its columns.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import MLP
    >>> network = FirstColumns(MLP(), n_columns=2)
    >>> network.setup(3, 1, torch.Generator().manual_seed(0))
    >>> x = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 9.0]])
    >>> y = network(x)
    >>> bool(y[0] == y[1])
    True
    """

    def __init__(self, network: Network, n_columns: int) -> None:
        super().__init__()
        self.network = network
        self.n_columns = n_columns

    def setup(self, n_inputs: int, n_outputs: int, generator: torch.Generator) -> None:
        self.network.setup(self.n_columns, n_outputs, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the network to the first columns of rows of shape (n, n_inputs)."""
        return self.network(x[..., : self.n_columns])


class LastColumnsExpansion(Expansion):
    """The expansion of a likelihood of the last columns; there is no linear start, since no column is reconstructed."""

    has_linear_start = False
    likelihood: LastColumns

    def constant(self, batch: Batch) -> Tensor:
        return self.likelihood.likelihood.expansion.constant(self._last(batch))

    def calibrate(self, batch: Batch, output: Tensor) -> None:
        self.likelihood.likelihood.expansion.calibrate(self._last(batch), output)

    def _last(self, batch: Batch) -> Batch:
        last = (..., slice(-self.likelihood.n_columns, None))
        return Batch(batch.x[last], None if batch.observed is None else batch.observed[last], batch.weight)


class LastColumns(Likelihood):
    """A likelihood of the last columns only: p(y|z), where the row is (x, y).

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood of these columns.
    n_columns : int
        Number of these columns.

    Examples
    --------
    >>> import torch
    >>> from eigencode.parts import GaussianLikelihood
    >>> part = LastColumns(GaussianLikelihood(), n_columns=1)
    >>> part.target(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[3.]])
    """

    expansion_type = LastColumnsExpansion

    def __init__(self, likelihood: Likelihood, n_columns: int) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.n_columns = n_columns

    def setup(self, sizes: Sizes) -> None:
        self.likelihood.setup(sizes.of_columns(slice(-self.n_columns, None)))

    @property
    def in_data_units(self) -> bool:  # type: ignore[override]
        """Whether the distribution is of values in the data's units."""
        return self.likelihood.in_data_units

    def cells(self, n_features: int) -> tuple[Cell, ...]:
        """The support and the units of each column; the first ones may have any values."""
        return (Cell("real", False),) * (n_features - self.n_columns) + self.likelihood.cells(self.n_columns)

    def block_widths(self, n_features: int) -> tuple[int, ...]:
        """Each of the first columns is one variable."""
        return (1,) * (n_features - self.n_columns) + self.likelihood.block_widths(self.n_columns)

    def n_outputs(self, n_features: int) -> int:
        return self.likelihood.n_outputs(self.n_columns)

    def target(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """The last columns of scaled rows of shape (..., d), in the units of the distribution."""
        last = (..., slice(-self.n_columns, None))
        return self.likelihood.target(x[last], None if observed is None else observed[last])

    def scaled(self, rows: Tensor) -> Tensor:
        return self.likelihood.scaled(rows)

    def forward(self, output: Tensor) -> Distribution:
        """The distribution of the last columns."""
        return self.likelihood(output)


class HeadWeights(GaussianWeights):
    r"""Independent normal weights of the decoder only: the penalty of ridge or logistic regression, for a linear head.

    .. math:: -\log p(w) = \frac{\lVert w \rVert^2}{2 \sigma_w^2} + \mathrm{const}

    Parameters
    ----------
    variance : float
        sigma_w^2.
    """

    def __init__(self, variance: float = 1.0) -> None:
        super().__init__(variance)

    def linear_start(self, problem: LinearProblem) -> None:
        """No closed form."""

    def _squares(self, composition: Composition) -> Iterator[tuple[Tensor, Tensor]]:
        """The decoder's squared weights with their variance."""
        for p in composition.decoder.parameters():
            if p.dim() > 1:
                yield p.square(), p.new_full((), float(self.variance))  # type: ignore[arg-type]


class FineTunedWeights(HeadWeights):
    r"""Normal weights of the decoder around zero, and of the encoder around those that training begins with.

    .. math:: -\log p(w) = \frac{\lVert w_g \rVert^2 + \lVert w_f - w_f^0 \rVert^2}{2 \sigma_w^2} + \mathrm{const}

    The head's weights g alone bound nothing: a larger code needs a smaller head, and where classes are separable the
    likelihood grows with the code forever. Around their start the encoder's weights f keep what they were trained for
    (Li, Grandvalet & Davoine, 2018: L2-SP).

    Parameters
    ----------
    variance : float
        sigma_w^2.
    """

    start: Tensor

    def join(self, composition: Composition) -> None:
        """Make room for the encoder's weights at the start."""
        self.register_buffer("start", _vector(composition.encoder))

    def first_state(self, batch: Batch, composition: Composition) -> dict[str, Tensor]:
        return {"start": _vector(composition.encoder)}

    def _squares(self, composition: Composition) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of the decoder's weights, and of the changes of the encoder's, biases included."""
        yield from super()._squares(composition)
        weights = list(composition.encoder.parameters())
        for p, start in zip(weights, self.start.split([p.numel() for p in weights]), strict=True):
            yield (p - start.view_as(p)).square(), p.new_full((), float(self.variance))  # type: ignore[arg-type]


def _vector(network: Network) -> Tensor:
    """A copy of all of a network's weights, one after the other, shape (P,)."""
    return torch.cat([torch.zeros(0), *(p.detach().reshape(-1) for p in network.parameters())])


class Reconstruction(Penalty):
    r"""The reconstruction of the first columns as a penalty.

    .. math:: \Omega = -w \log p(x|z)

    With it, features can still be reconstructed from a code that is fine-tuned on labels.

    Parameters
    ----------
    decoder : Network
        From codes to features.
    likelihood : Likelihood
        The likelihood of the features.
    n_columns : int
        Number of features.
    weight : float
        w.
    """

    numbers = ("weight",)

    def __init__(self, decoder: Network, likelihood: Likelihood, n_columns: int, weight: float = 1.0) -> None:
        super().__init__()
        self.decoder = decoder
        self.likelihood = likelihood
        self.n_columns = n_columns
        self.weight = weight

    def setup(self, sizes: Sizes) -> None:
        """Check the weight and make the tensors; the caller sets the decoder's weights afterwards."""
        self.require_number("weight")
        self.likelihood.setup(sizes.of_columns(slice(self.n_columns)))
        self.decoder.setup(sizes.n_components, self.likelihood.n_outputs(self.n_columns), torch.Generator())

    def forward(self, trace: Trace, composition: Composition) -> Tensor:
        """-w log p(x|z) of each row, in nats, shape (n,)."""
        first = (..., slice(self.n_columns))
        observed = None if trace.observed is None else trace.observed[first]
        cells = self.likelihood(self.decoder(trace.z)).log_prob(self.likelihood.target(trace.x[first], observed))
        return -self.weight * (cells if observed is None else cells.where(observed, 0.0)).sum(-1)
