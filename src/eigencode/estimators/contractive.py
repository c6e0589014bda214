"""ContractiveAutoencoder: a penalty on the Jacobian of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eigencode import parts
from eigencode.errors import OptionError
from eigencode.estimators.base import BaseAutoencoder
from eigencode.options import AutoencoderOptions, Estimate, changed, documented, option


@documented
@dataclass(eq=False, repr=False, kw_only=True)
class ContractiveAutoencoder(BaseAutoencoder):
    r"""An autoencoder with a penalty on the derivatives of its encoder (Rifai et al., 2011).

    It minimises the mean over rows of

    .. math:: \lVert x - g(f(x)) \rVert^2 + \lambda \lVert \partial f / \partial x \rVert_F^2

    so that the code changes only along the few directions in which neighbouring rows vary: ``jacobian_spectrum``
    returns the singular values of the Jacobian and ``local_dimension`` counts the large ones. The decoder has the
    transposed weights of the encoder, since otherwise small codes and a large decoder would avoid the penalty. With
    hidden layers it starts at random weights. With ``hidden=()`` it starts at its optimum: PCA with the factor
    (1 - lambda / 2l)+ for a principal direction of eigenvalue l. The paper's network for columns from 0 to 1 is
    ``ContractiveAutoencoder(k, hidden=(), code=Point("sigmoid"), likelihood="bernoulli")``.

    {parameters}

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from eigencode import ContractiveAutoencoder
    >>> X = load_digits().data[:500]
    >>> model = ContractiveAutoencoder(16, weight=1.0, max_epochs=10, random_state=0).fit(X)
    >>> bool(model.local_dimension(X).mean() < 14)
    True
    """

    tied: bool = option(
        True, "Let the decoder use the encoder's weights, transposed; if not, the penalty may have no minimum."
    )
    weight: float = option(
        0.3, "lambda, the penalty's weight against the squared error of a row in scaled units.", low=0
    )
    estimate: Estimate = option(
        "auto",
        "How the penalty is computed: 'exact', or by 'hutchinson' as an unbiased estimate from one pass; 'auto': "
        "exact where that costs no more than 8 passes.",
    )

    def _training_options(self) -> AutoencoderOptions:
        if not isinstance(self.penalties, Sequence):
            raise OptionError(
                "The 'penalties' parameter must be a sequence of parts", got=f"{self.penalties!r} instead"
            )
        init = "random" if self.init == "auto" and self.hidden else self.init
        return changed(self, init=init, penalties=(*self.penalties, parts.Contractive(self.weight, self.estimate)))
