"""skorch: its regressor around the torch module, the rows as their own target."""

import torch
from networks import Network
from scaled import Scaled
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, EarlyStopping
from torch import nn
from work import RATE, Unsupported


class Reconstruction(nn.Module):
    """The network without what only variational ones give."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)[0]


class Marker(Callback):
    """Evaluates the net at the end of each epoch, and at looks."""

    def __init__(self, mark, reconstruct):
        self.mark, self.reconstruct = mark, reconstruct

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        if training:
            self.mark.seen(len(batch[0]), self.reconstruct(net.predict))

    def on_epoch_end(self, net, **kwargs):
        self.mark(self.reconstruct(net.predict))


def fit(work, rows, epochs, mark, options):
    if work.kind == "variational":
        raise Unsupported("skorch has no variational autoencoder: the loss would be written by hand")
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = Scaled(work, rows)
    batch = {} if work.batch is None else {"batch_size": work.batch}
    stopping = [EarlyStopping(patience=options.patience, load_best=True)] if options.patience else []
    net = NeuralNetRegressor(
        Reconstruction(Network(work, rows.shape[1])),
        optimizer=torch.optim.Adam,
        lr=RATE,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        verbose=0,
        # Last, so that its own records are made on the clock.
        callbacks=[*stopping, Marker(mark, data.reconstruct)],
        **batch,
    )
    net.fit(data.rows, data.rows)
    return {"n_rows": len(rows) * 4 // 5}
