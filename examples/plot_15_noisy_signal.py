r"""
Cleaning a noisy signal
=======================

The rows of a denoising autoencoder may be windows of a series,

.. math:: x_t = (s_{t - w + 1}, \dots, s_t), \qquad \tilde x_t = x_t + \sigma \varepsilon .

It is trained on a quiet recording, and learns what the strokes of this machine look like. Each reading of a noisy
recording is then the mean of the reconstructions of all windows that contain it.
"""

import matplotlib.pyplot as plt
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import savgol_filter

from eigencode import DenoisingAutoencoder

WIDTH, NOISE = 32, 0.25


def machine(n_readings, seed):
    """Two strokes in each turn, whose speed and force change slowly."""
    rng, t = np.random.default_rng(seed), np.arange(n_readings)
    turns = np.cumsum((1 + 0.1 * np.sin(t / 300 + rng.uniform(0, 6))) / 40)
    phase, force = turns % 1, 1 + 0.3 * np.sin(t / 170 + rng.uniform(0, 6))
    strokes = np.exp(-(((phase - 0.3) / 0.05) ** 2)) - 0.6 * np.exp(
        -(((phase - 0.45) / 0.08) ** 2)
    )
    return force * strokes + 0.3 * np.sin(2 * np.pi * phase)


def joined(windows):
    """The mean of all windows at each reading."""
    total = np.zeros(len(windows) + WIDTH - 1)
    count = np.zeros_like(total)
    for j in range(WIDTH):
        total[j : j + len(windows)] += windows[:, j]
        count[j : j + len(windows)] += 1
    return total / count


quiet, truth = machine(6000, seed=0), machine(2000, seed=1)
noisy = truth + NOISE * np.random.default_rng(2).normal(size=2000)
model = DenoisingAutoencoder(
    8, level=NOISE / quiet.std(), max_epochs=20, random_state=0
)
model.fit(sliding_window_view(quiet, WIDTH))
windows = sliding_window_view(noisy, WIDTH)
series = {
    "recording": noisy,
    "Savitzky-Golay filter": savgol_filter(noisy, 9, 3),
    "best linear map": joined(model.baseline_.reconstruct(windows)),
    "denoising autoencoder": joined(model.denoise(windows)),
}

# %%
# The truth in black. A filter has one shape for all times, and rounds the strokes.

figure, axes = plt.subplots(
    4, 1, figsize=(8, 6), sharex=True, sharey=True, layout="constrained"
)
for axis, (name, one) in zip(axes, series.items(), strict=True):
    axis.plot(truth[400:700], color="black", lw=0.8)
    axis.plot(one[400:700], color="tab:orange", lw=1.2)
    error = np.sqrt(np.mean((one - truth) ** 2))
    axis.set_title(f"{name}: error {error:.3f}", loc="left", fontsize=10)
axes[-1].set(xlabel="reading")
