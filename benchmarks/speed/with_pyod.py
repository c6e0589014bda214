"""PyOD's AutoEncoder and VAE, read as reconstructions instead of outlier scores."""

import torch
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.vae import VAE
from work import Unsupported


def fit(work, rows, epochs, mark, options):
    torch.set_num_threads(options.threads)
    if work.kind == "convolutional":
        raise Unsupported("PyOD has no convolutional autoencoder")
    is_variational = work.kind == "variational"

    class Marked(VAE if is_variational else AutoEncoder):
        """Evaluated at the end of each epoch."""

        def epoch_update(self):
            mark(self.reconstruct)

        @torch.no_grad()
        def reconstruct(self, part):
            self.model.eval()
            mean, unit = (self.X_mean, self.X_std + 1e-8) if self.preprocessing else (0, 1)
            x = torch.as_tensor((part - mean) / unit, dtype=torch.float32)
            rebuilt = self.model.decode(self.model.encode(x)[0]) if is_variational else self.model(x)
            self.model.train()
            return rebuilt.numpy() * unit + mean

    batch = {} if work.batch is None else {"batch_size": work.batch}
    if is_variational:
        layers = {
            "encoder_neuron_list": [*work.hidden], "decoder_neuron_list": [*work.hidden[::-1]],
            "latent_dim": work.n_components,
        }  # fmt: skip
    else:
        layers = {"hidden_neuron_list": [*work.hidden, work.n_components]}
    model = Marked(epoch_num=epochs, verbose=0, preprocessing=work.is_table, **layers, **batch)
    model.fit(rows)
    return {"n_rows": len(rows) // model.batch_size * model.batch_size}
