"""The networks of the work as torch modules, for peers that are given one: ReLU between the layers."""

import itertools

import torch
from torch import nn

SIDE = 28
"""Height and width of the images."""


def mlp(*widths):
    """Linear layers with ReLU between them."""
    steps = [module for a, b in itertools.pairwise(widths) for module in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*steps[:-1])


def convolutions(channels, n_outputs):
    """Convolutions that halve an image each, and a linear layer to the code."""
    steps = [module for a, b in itertools.pairwise((1, *channels)) for module in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
    size = SIDE >> len(channels)
    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)), *steps, nn.Flatten(), nn.Linear(channels[-1] * size**2, n_outputs)
    )


def transposed_convolutions(channels, n_inputs):
    """The mirror image."""
    size = SIDE >> len(channels)
    widths = (*channels[::-1], 1)
    steps = [module for a, b in itertools.pairwise(widths) for module in (nn.ReLU(), nn.ConvTranspose2d(a, b, 4, 2, 1))]
    return nn.Sequential(
        nn.Linear(n_inputs, channels[-1] * size**2), nn.Unflatten(1, (channels[-1], size, size)), *steps, nn.Flatten()
    )


def halves(work, n_features):
    """Encoder and decoder; the encoder of a variational one gives mean and log-variance side by side."""
    k = work.n_components
    if work.kind == "convolutional":
        return convolutions(work.hidden, k), transposed_convolutions(work.hidden, k)
    n_outputs = 2 * k if work.kind == "variational" else k
    return mlp(n_features, *work.hidden, n_outputs), mlp(k, *work.hidden[::-1], n_features)


class Network(nn.Module):
    """Encoder and decoder in a row."""

    def __init__(self, work, n_features):
        super().__init__()
        self.is_variational = work.kind == "variational"
        self.encoder, self.decoder = halves(work, n_features)

    def forward(self, x):
        """What is rebuilt, and what the code's divergence needs: mean and log-variance, or None."""
        if not self.is_variational:
            return self.decoder(self.encoder(x)), None
        mean, log_variance = self.encoder(x).float().chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.decoder(z), (mean, log_variance)

    def loss(self, x):
        """Mean squared error a cell; for a variational network the negative bound of 0-1 columns, a row."""
        rebuilt, moments = self(x)
        if moments is None:
            return nn.functional.mse_loss(rebuilt.float(), x)
        mean, log_variance = moments
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        likelihood = nn.functional.binary_cross_entropy_with_logits(rebuilt.float(), x, reduction="sum")
        return (likelihood + divergence) / len(x)

    @torch.inference_mode()
    def reconstruct(self, rows):
        """Rows as arrays rebuilt from the mean code."""
        self.eval()
        code = self.encoder(torch.from_numpy(rows).to(next(self.parameters()).device))
        rebuilt = self.decoder(code.chunk(2, dim=1)[0]).sigmoid() if self.is_variational else self.decoder(code)
        self.train()
        return rebuilt.cpu().numpy()
