"""The memory of a fit of a folder of colour images, beside what they take as float32.

    python benchmarks/image_memory.py [--images 7000 20000] [--side 64] [--hidden 64]

For each number it writes a folder of PNG files, colours that change smoothly, with noise, and fits one epoch in a
process of its own. Printed are the largest memory of that process without pages of files, less what it had after the
imports, and the size of the images as float32. No claim. Linux only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np


def own_memory() -> float:
    """MB of this process without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "VmSwap"))) / 1e3


def write(folder: Path, n_images: int, side: int) -> None:
    """Images between four colours, one in each corner."""
    from PIL import Image

    random = np.random.default_rng(0)
    place = np.linspace(0, 1, side)
    shares = np.stack([np.outer(a, b) for a in (1 - place, place) for b in (1 - place, place)], axis=-1)
    for number in range(n_images):
        pixels = shares @ random.uniform(0, 255, size=(4, 3)) + random.normal(0, 8, size=(side, side, 3))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06}.png", compress_level=1)


def fit(folder: Path, hidden: int) -> float:
    """MB that a fit takes at most."""
    from eigencode import Autoencoder

    Autoencoder(2, max_epochs=1, random_state=0).fit(
        np.random.default_rng(0).normal(size=(200, 5))
    )  # what imports take
    before = most = own_memory()
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.02):
            most = max(most, own_memory())

    threading.Thread(target=watch, daemon=True).start()
    Autoencoder(8, hidden=(hidden,), max_epochs=1, random_state=0).fit(folder)
    done.set()
    return most - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=[7_000, 20_000])
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--fit", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.fit:
        print(f"{fit(chosen.fit, chosen.hidden):.0f}")
        return
    for n_images in chosen.images:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), n_images, chosen.side)
            command = [sys.executable, __file__, "--fit", folder, "--hidden", str(chosen.hidden)]
            taken = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
        size = 12e-6 * n_images * chosen.side**2
        print(f"{n_images:,} images: {taken} MB beside the imports, {size:.0f} MB as float32", flush=True)


if __name__ == "__main__":
    main()
