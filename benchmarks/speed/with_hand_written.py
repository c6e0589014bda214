"""Forward and backward passes written by hand: gradients go into one vector, which one call of fused Adam reads."""

import itertools

import torch
from scaled import Scaled
from work import RATE, Unsupported

BATCH = 128
BETAS, EPSILON = (0.9, 0.999), 1e-8


class Network:
    """Linear layers with ReLU between them, but for the code; weights and gradients as views of two vectors."""

    def __init__(self, work, n_features, device):
        widths = [n_features, *work.hidden, work.n_components, *work.hidden[::-1], n_features]
        self.shapes = [shape for a, b in itertools.pairwise(widths) for shape in ((b, a), (b,))]
        self.is_linear = [i in (len(work.hidden), len(widths) - 2) for i in range(len(widths) - 1)]
        sizes = [torch.Size(shape).numel() for shape in self.shapes]
        self.vector, self.gradient = torch.zeros(2, sum(sizes), device=device)
        self.layers, self.slopes = (self.views(vector, sizes) for vector in (self.vector, self.gradient))
        for weight, bias in self.layers:
            for tensor in (weight, bias):
                tensor.uniform_(-(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

    def views(self, vector, sizes):
        """Pairs of a layer's weights and biases."""
        parts = vector.split(sizes)
        views = [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return list(zip(views[::2], views[1::2], strict=True))

    def forward(self, x):
        """The input of each layer, and the output."""
        found = [x]
        for (weight, bias), is_linear in zip(self.layers, self.is_linear, strict=True):
            x = torch.addmm(bias, x, weight.T)
            found.append(x if is_linear else x.relu_())
        return found

    def differentiate(self, x):
        """Set the gradient of the mean squared error a cell."""
        *inputs, output = self.forward(x)
        delta = output.sub_(x).mul_(2 / x.numel())
        for i in reversed(range(len(inputs))):
            slope, slope_of_bias = self.slopes[i]
            torch.mm(delta.T, inputs[i], out=slope)
            torch.sum(delta, 0, out=slope_of_bias)
            if i:
                delta = delta @ self.layers[i][0]
                if not self.is_linear[i - 1]:
                    delta = torch.ops.aten.threshold_backward(delta, inputs[i], 0)


def steps_of(network, x, batch_size, n_epochs):
    """Train for some epochs: yield the number of rows of each step, and None after each epoch."""
    mean, square = torch.zeros_like(network.vector), torch.zeros_like(network.vector)
    n_steps = torch.zeros(1, device=x.device)
    for _ in range(n_epochs):
        for batch in torch.randperm(len(x), device=x.device).split(batch_size):
            network.differentiate(x.index_select(0, batch))
            n_steps += 1
            torch._fused_adam_(
                [network.vector], [network.gradient], [mean], [square], [], [n_steps], lr=RATE, beta1=BETAS[0],
                beta2=BETAS[1], weight_decay=0.0, eps=EPSILON, amsgrad=False, maximize=False,
            )  # fmt: skip
            yield len(batch)
        yield None


@torch.inference_mode()
def fit(work, rows, epochs, mark, options):
    if work.kind != "plain":
        raise Unsupported("plain networks only")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data, device = Scaled(work, rows), torch.device(options.device)
    network = Network(work, rows.shape[1], device)
    reconstruct = data.reconstruct(lambda rows: network.forward(torch.from_numpy(rows).to(device))[-1].cpu().numpy())
    for n_rows in steps_of(network, torch.from_numpy(data.rows).to(device), work.batch or BATCH, epochs):
        if n_rows is None:
            mark(reconstruct)
        else:
            mark.seen(n_rows, reconstruct)
    return {"precision": "float32"}
