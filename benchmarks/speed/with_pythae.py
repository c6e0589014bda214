"""pythae: its pipeline, its trainer, and networks given as its encoder and decoder modules."""

import logging
import tempfile

import numpy as np
import torch
from networks import halves
from pythae.models import AE, VAE, AEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from scaled import Scaled
from work import RATE

logging.disable(logging.INFO)


class Encoder(BaseEncoder):
    """The work's encoder in pythae's clothes."""

    def __init__(self, network, is_variational):
        super().__init__()
        self.network, self.is_variational = network, is_variational

    def forward(self, x):
        code = self.network(x)
        if not self.is_variational:
            return ModelOutput(embedding=code)
        mean, log_variance = code.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """The work's decoder; like pythae's own it ends in a sigmoid where the columns are from 0 to 1."""

    def __init__(self, network, is_share):
        super().__init__()
        self.network, self.is_share = network, is_share

    def forward(self, z):
        rebuilt = self.network(z)
        return ModelOutput(reconstruction=rebuilt.sigmoid() if self.is_share else rebuilt)


class Marker(TrainingCallback):
    """Evaluates the model at the end of each epoch, and at looks."""

    def __init__(self, mark, reconstruct):
        self.mark, self.reconstruct = mark, reconstruct

    def on_train_step_end(self, training_config, **kwargs):
        self.mark.seen(training_config.per_device_train_batch_size, self.reconstruct)

    def on_epoch_end(self, training_config, **kwargs):
        self.mark(self.reconstruct)


def built(work, n_features):
    """The model."""
    is_variational = work.kind == "variational"
    encoder, decoder = halves(work, n_features)
    networks = Encoder(encoder, is_variational), Decoder(decoder, not work.is_table)
    sizes = {"input_dim": (n_features,), "latent_dim": work.n_components}
    if is_variational:
        return VAE(VAEConfig(**sizes, reconstruction_loss="mse" if work.is_table else "bce"), *networks)
    return AE(AEConfig(**sizes), *networks)


def fit(work, rows, epochs, mark, options):
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = Scaled(work, rows)
    model = built(work, rows.shape[1])

    @torch.inference_mode()
    def reconstruct(part):
        model.eval()
        rebuilt = model.predict(torch.from_numpy(part).to(next(model.parameters()).device)).recon_x.cpu().numpy()
        model.train()
        return rebuilt

    with tempfile.TemporaryDirectory() as folder:
        batch = {} if work.batch is None else {"per_device_train_batch_size": work.batch}
        config = BaseTrainerConfig(output_dir=folder, num_epochs=epochs, learning_rate=RATE, **batch)
        callbacks = [Marker(mark, data.reconstruct(reconstruct))]
        TrainingPipeline(training_config=config, model=model)(data.rows, callbacks=callbacks)
    return {}


def encode(work, rows, repeats, options):
    import time

    torch.set_num_threads(options.threads)
    model = built(work, rows.shape[1]).eval()
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        with torch.no_grad():
            codes = model.embed(torch.from_numpy(rows))
        found.append(time.perf_counter() - began)
    assert codes.shape == (len(rows), work.n_components)
    return {"rows_per_second": len(rows) / float(np.median(found))}
