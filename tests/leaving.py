"""Processes of which some leave a loop over iter_fit; each prints what came of it.

    python leaving.py ROW RANKS [dropped]

Those of the comma-separated RANKS leave at the number ROW of the rows; "dropped" says that nothing holds the iterator.
"""

import os
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from eigencode import Autoencoder
from eigencode.errors import TrainingError


def main(last: int, leaving: list[str]) -> Iterator[dict]:
    """Leave a loop at a row; an iterator that is still held when the process ends."""
    X = np.random.default_rng(0).normal(size=(400, 6))
    model = Autoencoder(2, hidden=(8,), max_epochs=3, batch_size=32, learning_rate=1e-3, random_state=0)
    rows = model.iter_fit(X, every=150)
    try:
        for number, _ in enumerate(rows, 1):
            if number == last and os.environ["RANK"] in leaving:
                break
        rows.close()
        print("left", model.best_epoch_, f"{model.best_objective_:.6f}")
    except TrainingError as error:
        print(error)
    held = Autoencoder(2, hidden=(8,), max_epochs=3, random_state=0).iter_fit(X)
    next(held)
    return held


def drop(last: int, leaving: list[str]) -> None:
    """Leave a loop over an iterator that nothing else holds."""
    warnings.simplefilter("default")
    X = np.random.default_rng(0).normal(size=(400, 6))
    model = Autoencoder(2, hidden=(8,), max_epochs=3, batch_size=32, learning_rate=1e-3, random_state=0)
    try:
        for number, _ in enumerate(model.iter_fit(X, every=150), 1):
            if number == last and os.environ["RANK"] in leaving:
                break
    except TrainingError as error:
        print(error)
    print("the rest of the program")


if __name__ == "__main__" and sys.argv[3:] == ["dropped"]:
    drop(int(sys.argv[1]), sys.argv[2].split(","))
elif __name__ == "__main__":
    held = main(int(sys.argv[1]), sys.argv[2].split(","))
