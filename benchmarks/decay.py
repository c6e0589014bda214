"""Error of other rows with the decay of weights beside a linear path, and without it.

    python benchmarks/decay.py MNIST [--rows 10000] [--epochs 40] [--seeds 1]

MNIST is a folder as `images.py` takes it. Networks 784-512-256-30 are fitted to its first rows; printed is the squared
error of an image of its test rows. No claim.
"""

import argparse
import time

from images import images

from eigencode import Autoencoder
from eigencode.training import step_factors


def main():
    """Print the errors of each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    training, test = images(options.folder)
    whole = step_factors.DECAY
    for seed in range(options.seeds):
        for name, decay in (("without", 0.0), ("with", whole)):
            step_factors.DECAY = decay
            began = time.process_time()
            model = Autoencoder(30, hidden=(512, 256), max_epochs=options.epochs, random_state=seed)
            model.fit(training[: options.rows])
            error = float(model.reconstruction_error(test).mean())
            seconds = time.process_time() - began
            print(f"seed {seed}, {name} decay: {error:.3f} an image, {seconds:.0f} s of the processor", flush=True)


if __name__ == "__main__":
    main()
