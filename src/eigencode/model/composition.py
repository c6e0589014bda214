r"""Composition: one autoencoder, as a plain torch module made of the formula's terms.

.. math::
    \underset{w}{\min} \; E_x E_{\tilde x \sim C(\tilde x|x)} \left[ E_{z \sim q(z|\tilde x)} [ -\log p(x|z) ]
    + \beta D(q(z|\tilde x), p(z)) + \Omega \right] - \frac1n \log p(w)

Every classical autoencoder is this formula with one or two terms changed. A composition is a pure function of its
parameters, a batch and the noise; it draws no random numbers itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from eigencode import model, parts
from eigencode.batch import Batch, selected
from eigencode.parts.forms import require_distribution, require_posterior, require_width


@dataclass(frozen=True)
class Noise:
    """All random numbers of one pass, drawn before it; None if a part is deterministic."""

    corruption: Tensor | None = None
    code: Tensor | None = None
    penalties: tuple[Tensor | None, ...] = ()
    input_dropout: Tensor | None = None

    @property
    def leaves(self) -> tuple[Tensor | None, ...]:
        """All tensors in a fixed order, as arguments of a function of tensors."""
        return self.corruption, self.code, self.input_dropout, *self.penalties

    @classmethod
    def of(
        cls,
        corruption: Tensor | None = None,
        code: Tensor | None = None,
        input_dropout: Tensor | None = None,
        *penalties: Tensor | None,
    ) -> Noise:
        """The noise with these leaves."""
        return cls(corruption, code, penalties, input_dropout)


SILENCE = Noise()


@dataclass(frozen=True)
class Trace:
    """All results of one forward pass over a batch.

    Attributes
    ----------
    x : Tensor
        The clean scaled rows, shape (n, d), with 0 in the cells that are missing.
    observed : Tensor or None
        True where a cell is known and False where it is missing, shape (n, d); None where all are known.
    x_tilde : Tensor
        The encoder's input, shape (n, d), with 0 in the cells that are missing.
    q : Posterior
        Distribution of the codes given ``x_tilde``.
    z : Tensor
        The codes drawn, shape (n, k), or (m, n, k) for m draws a row.
    p : Distribution
        Distribution of the columns given ``z``.
    target : Tensor
        The clean rows in the units of ``p``, shape (n, d): ``x`` itself for most likelihoods.
    noise : Noise
        The random numbers of this pass.
    output : Tensor or None
        The encoder's output for ``x_tilde``, from which the code makes ``q``.
    """

    x: Tensor
    observed: Tensor | None
    x_tilde: Tensor
    q: parts.Posterior
    z: Tensor
    p: parts.Distribution
    target: Tensor
    noise: Noise = SILENCE
    output: Tensor | None = None

    @property
    def n_draws(self) -> int:
        """Codes drawn for each row."""
        return len(self.z) if self.z.dim() > 2 else 1

    def each_draw(self, composition: Composition) -> list[Trace]:
        """One trace for each code drawn, with ``z`` of shape (n, k) and ``p`` given that code."""
        if self.z.dim() == 2:
            return [self]
        return [replace(self, z=z, p=composition.decode(z)) for z in self.z]


class Composition(parts.Part):
    """All terms of the formula as one module, usable in any training loop.

    Parameters
    ----------
    encoder, decoder : Network
        The maps f and g.
    code : Code, default Point()
        The distribution of the code given the encoder's output.
    likelihood : Likelihood, default GaussianLikelihood()
        The distribution of the columns given the decoder's output.
    corruption : Corruption, optional
        Noise on the encoder's input in training.
    prior : Prior, optional
        Density of the codes.
    penalties : sequence of Penalty
        Further terms of the objective.
    weight_prior : WeightPrior, optional
        Density of the networks' weights.
    input_dropout : InputDropout, optional
        Known cells that the encoder does not see in training, for rows with gaps.

    Examples
    --------
    >>> import torch
    >>> from eigencode import Composition
    >>> from eigencode.parts import MLP
    >>> model = Composition(encoder=MLP(hidden=(8,)), decoder=MLP(hidden=(8,)))
    >>> model.setup(
    ...     n_features=5, n_components=2, generator=torch.Generator().manual_seed(0)
    ... )
    >>> trace = model(torch.zeros(3, 5))
    >>> trace.z.shape, trace.p.mean.shape
    (torch.Size([3, 2]), torch.Size([3, 5]))
    """

    paddable = ("n_components",)

    def __init__(
        self,
        encoder: parts.Network,
        decoder: parts.Network,
        code: parts.Code | None = None,
        likelihood: parts.Likelihood | None = None,
        corruption: parts.Corruption | None = None,
        prior: parts.Prior | None = None,
        penalties: Sequence[parts.Penalty] = (),
        weight_prior: parts.WeightPrior | None = None,
        input_dropout: parts.InputDropout | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.code = parts.Point() if code is None else code
        self.likelihood = parts.GaussianLikelihood() if likelihood is None else likelihood
        self.corruption = corruption
        self.prior = prior
        self.penalties = penalties
        self.weight_prior = weight_prior
        self.input_dropout = input_dropout
        self._penalties = nn.ModuleList(penalties)  # registers their tensors with this module

    _moving: tuple[str, ...] = ()
    """Names of the terms with a state that training updates."""

    def setup(
        self, n_features: int, n_components: int, generator: torch.Generator, sizes: parts.Sizes | None = None
    ) -> None:
        """Make all tensors for rows of ``n_features`` columns and codes of ``n_components``."""
        self.n_features, self.n_components = n_features, n_components
        sizes = replace(sizes or parts.Sizes(n_features, n_components), n_components=n_components)
        for term in self.terms:
            term.setup(sizes)
        require_distribution(self.likelihood, n_features)
        require_width(self.code, "width", self.code.width, n_components)
        self.encoder.mirror(self.decoder)
        self.encoder.setup(n_features, self.code.width(n_components), generator)
        self.decoder.mirror(self.encoder)
        self.decoder.setup(n_components, self.likelihood.n_outputs(n_features), generator)
        if self.weight_prior is not None:
            self.weight_prior.check(self)
        for part in (self.encoder, self.decoder, *self.terms):
            part.join(self)
        require_posterior(self.code, n_components)
        self._moving = tuple(
            name for name, term in self.named_terms() if type(term).next_state is not parts.Term.next_state
        )
        # The last bits of a product depend on the memory layout of a matrix, which is not saved in files.
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.contiguous()

    @property
    def terms(self) -> list[parts.Term]:
        """All parts but the networks."""
        return [term for _, term in self.named_terms()]

    def named_terms(self) -> Iterator[tuple[str, parts.Term]]:
        """The terms, each with its name among the model's modules."""
        for name in ("code", "likelihood", "corruption", "prior", "input_dropout"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        for index, penalty in enumerate(self.penalties):
            yield f"_penalties.{index}", penalty
        if self.weight_prior is not None:
            yield "weight_prior", self.weight_prior

    @torch.no_grad()
    def begin(self, batch: Batch | Tensor, alike: Composition | None = None) -> None:
        """Let each part set tensors that depend on the data, before training.

        If a model with the same terms and outputs has begun already, the terms have its tensors.
        """
        batch = batch if isinstance(batch, Batch) else Batch(batch)
        for part in (self.decoder, self.encoder, *(self.terms if alike is None else [])):
            for name, value in part.first_state(batch, self).items():
                getattr(part, name).copy_(value)
        for own, other in zip(self.terms, self.terms if alike is None else alike.terms, strict=True):
            if own is not other:
                own.load_state_dict(other.state_dict())

    def statistics(self, trace: Trace) -> dict[str, Tensor]:
        """The statistics of all terms after a step on a batch: sums over its rows, by name; without a gradient."""
        if not self._moving:
            return {}
        with torch.no_grad():
            return self._of_terms(lambda term: term.statistics(trace, self))

    def next_state(self, statistics: Mapping[str, Tensor], n_rows: int) -> dict[str, Tensor]:
        """The new states of all terms after a step on ``n_rows`` rows, by the buffer's name in the model."""
        return self._of_terms(lambda term, own: term.next_state(own, n_rows), statistics)

    def advance(self, statistics: Mapping[str, Tensor], n_rows: int) -> None:
        """Update the states of all terms after a step on ``n_rows`` rows."""
        if self._moving:
            with torch.no_grad():
                self.take(self.next_state(statistics, n_rows))

    @property
    def learns_from_validation(self) -> bool:
        """Whether any term updates its state from the validation rows."""
        return any(term.learns_from_validation for term in self.terms)

    def validation_statistics(self, trace: Trace) -> dict[str, Tensor]:
        """The statistics of all terms for some validation rows, by name; each tensor has rows as its first axis."""
        return self._of_terms(lambda term: term.validation_statistics(trace, self))

    def validation_state(self, statistics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new states of all terms from the statistics of all validation rows, by the buffer's name in the model."""
        return self._of_terms(lambda term, own: term.validation_state(own, self), statistics)

    def _of_terms(
        self, function: Callable[..., Mapping[str, Tensor]], given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Apply a function to each term with a state and to its own tensors among the given ones; join the results."""
        found: dict[str, Tensor] = {}
        for name in self._moving:
            term = self.get_submodule(name)
            own = () if given is None else (_within(name, given),)
            found |= {f"{name}.{inner}": value for inner, value in function(term, *own).items()}
        return found

    @torch.no_grad()
    def take(self, state: Mapping[str, Tensor]) -> None:
        """Copy values into buffers by name."""
        for name, value in state.items():
            self.get_buffer(name).copy_(value)

    @property
    def is_stochastic(self) -> bool:
        """Whether a training pass uses random numbers."""
        return any(term.is_stochastic for term in self.terms)

    def draw_noise(self, n_rows: int, generator: torch.Generator) -> Noise:
        """Draw the random numbers of one pass over ``n_rows`` rows."""
        return Noise(
            None if self.corruption is None else self.corruption.draw_noise(n_rows, self.n_features, generator),
            self.code.draw_noise(n_rows, self.n_components, generator),
            tuple(penalty.draw_noise(n_rows, self, generator) for penalty in self.penalties),
            None if self.input_dropout is None else self.input_dropout.draw_noise(n_rows, self.n_features, generator),
        )

    def encode(self, x: Tensor, observed: Tensor | None = None) -> parts.Posterior:
        """The distribution q(z|x) of the codes of rows of shape (n, d); ``observed`` is 0 where a cell is missing."""
        return self.code(self.encoder_output(x, observed))

    def encoder_output(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """The encoder's output for rows of shape (n, d), from which the code is made."""
        fill = torch.nan if self.encoder.sees_gaps else 0.0
        return _widened(self.encoder(x if observed is None else x.masked_fill(observed == 0, fill)))

    def decode(self, z: Tensor) -> parts.Distribution:
        """The distribution p(x|z) of the scaled columns given codes of shape (n, k), or (m, n, k)."""
        output = self.decoder(z.reshape(-1, z.shape[-1]))
        return self.likelihood(_widened(output.reshape(*z.shape[:-1], output.shape[-1])))

    def reconstruct(self, x: Tensor, observed: Tensor | None = None) -> parts.Distribution:
        """The distribution of the columns at the mean code of clean rows of shape (n, d)."""
        return self.decode(self.encode(x, observed).mean)

    def squared_jacobian(self, trace: Trace, noise: Tensor | None = None) -> Tensor:
        """The squared norm of the encoder's Jacobian at each row, shape (n,): exact, or estimated if noise is given."""
        if noise is not None:
            return model.hutchinson(self, trace.x, noise, observed=trace.observed)
        output = trace.output if trace.x_tilde is trace.x else None
        return model.squared_frobenius(self, trace.x, output=output, observed=trace.observed)

    def mixture_of_codes(self, batch: Batch, most: int) -> model.Mixture | None:
        """A mixture of at most so many Gaussians that explains rows better than a standard normal prior does."""
        q = self.encode(batch.x, batch.observed)
        if q.variance is None:
            return None
        return model.mixture_prior(q.mean.double().cpu().numpy(), q.variance.double().mean(0).cpu().numpy(), most)

    def n_jacobian_passes(self, n_rows: int) -> int:
        """Number of passes that the exact norm needs for a batch of ``n_rows`` rows; 0 for a closed form."""
        return model.n_passes(self, n_rows)

    def forward(self, batch: Batch | Tensor, noise: Noise = SILENCE, output: Tensor | None = None) -> Trace:
        """Corrupt a batch, or scaled rows of shape (n, d), with the noise if given; encode; draw a code; decode.

        ``output`` is the encoder's output of an earlier pass with the same weights, rows and noise, if it is known.
        """
        batch = batch if isinstance(batch, Batch) else Batch(batch)
        x, known = x_tilde, _ = batch.x, batch.observed
        seen = known
        if self.input_dropout is not None and noise.input_dropout is not None:
            seen = self.input_dropout(
                torch.ones_like(x, dtype=torch.bool) if known is None else known, noise.input_dropout
            )
            x_tilde = selected(x, seen)
        if self.corruption is not None and noise.corruption is not None:
            x_tilde = selected(self.corruption(x, noise.corruption), seen)
        if output is None:
            output = self.encoder_output(x_tilde, seen)
        q = self.code(output)
        z = q.draw(noise.code)
        return Trace(x, known, x_tilde, q, z, self.decode(z), self.likelihood.target(x, known), noise, output)


def _within(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with ``name`` and a dot, by the rest of their names."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _widened(output: Tensor) -> Tensor:
    """Densities and penalties are computed in float32 at least, whatever the networks' precision."""
    return output.float() if output.dtype in (torch.bfloat16, torch.float16) else output
