"""No claim: processor time of a fit of mixed columns and of its export to ONNX, for more and more columns; the number
of operators of the graph, and microseconds that onnxruntime takes for a row.

    python benchmarks/export.py [--of-each 1 4 12]
"""

import argparse
import time
import warnings
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
import pandas as pd

from eigencode import Autoencoder

N_ROWS = 2000


def table(n_of_each: int) -> pd.DataFrame:
    """Rows of three latent numbers: so many real columns, with gaps, counts, positive numbers, labels and booleans."""
    rng = np.random.default_rng(0)
    latent, columns = rng.normal(size=(N_ROWS, 3)), {}
    for number in range(n_of_each):
        x, hidden = latent @ rng.normal(size=(3, 6)) + 0.3 * rng.normal(size=(N_ROWS, 6)), rng.random(N_ROWS) < 0.1
        columns |= {
            f"real {number}": x[:, 0],
            f"gaps {number}": np.where(hidden, np.nan, x[:, 1]),
            f"count {number}": rng.poisson(np.exp(0.5 * x[:, 2])),
            f"positive {number}": np.exp(x[:, 3]),
            f"label {number}": np.array(list("wxyz"))[np.digitize(x[:, 4], [-1, 0, 1])],
            f"flag {number}": x[:, 5] > 0,
        }
    return pd.DataFrame(columns)


def measured(n_of_each: int, path: str) -> str:
    """A line of the table."""
    rows = table(n_of_each)
    began = time.process_time()
    model = Autoencoder(3, max_epochs=10, random_state=0).fit(rows)
    fitted = time.process_time()
    model.export(path)
    exported = time.process_time()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = np.random.default_rng(0).normal(size=(1000, rows.shape[1]))
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        session.run(None, {"X": given})
        seconds.append(time.perf_counter() - start)
    n_operators = len(onnx.load(path).graph.node)
    return (
        f"{rows.shape[1]:7d} {fitted - began:8.1f} {exported - fitted:10.1f} {n_operators:10d} "
        f"{np.median(seconds) * 1000:18.1f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of-each", type=int, nargs="+", default=[1, 4, 12])
    warnings.simplefilter("ignore")
    print("columns    fit, s  export, s  operators  microseconds a row")
    with TemporaryDirectory() as folder:
        for n_of_each in parser.parse_args().of_each:
            print(measured(n_of_each, f"{folder}/model.onnx"), flush=True)


if __name__ == "__main__":
    main()
