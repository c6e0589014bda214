"""Claims: a table is fitted with no argument but the frame, by every estimator, from pandas, polars and Arrow; it comes
back equal in columns, types, categories and index; categories of rows that were not fitted are rebuilt more often than
by the mode, numbers with a smaller squared error than by the mean, with half as many components as columns too.

    python benchmarks/tables.py titanic.csv [penguins.csv ...] [--rows 2000] [--epochs N] [--seeds 1] [--kinds ...]

The exit code is 1 if `Autoencoder`, with as many components as it chooses or with half as many as columns, fails this.
A third of the rows is held out, another third with each seed. Printed for each estimator: seconds of CPU to fit,
whether the three libraries come back equal, the mean share of categories rebuilt (with that of the mode) and the mean
squared error of numbers over that of the mean; and the columns that are not better than by the mode or the mean.
"""

import argparse
import itertools
import sys
import time
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

import eigencode as ec

KINDS = (
    ec.Autoencoder, ec.LinearAutoencoder, ec.DenoisingAutoencoder, ec.ContractiveAutoencoder, ec.SparseAutoencoder,
    ec.VariationalAutoencoder, ec.StackedAutoencoder,
)  # fmt: skip
LIBRARIES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}


def estimators(n_columns, options, names, seed):
    """A name and an estimator for each kind, with as many components as it chooses, and with half of the columns."""
    for kind in [kind for kind in KINDS if kind.__name__ in names]:
        own = {"random_state": seed} | (options if kind is not ec.LinearAutoencoder else {})
        yield kind.__name__, kind(**own)
        yield f"{kind.__name__}({n_columns // 2})", kind(n_columns // 2, **own)


def types_of(frame):
    """Names and types of the columns of any frame."""
    if isinstance(frame, pa.Table):
        return frame.schema
    return list(zip(frame.columns, frame.dtypes, strict=True))


def is_equal(model, frame):
    """Whether a frame of each library comes back with its columns, types, categories and index."""
    frame = frame.assign(
        **{name: frame[name].astype("category") for name in frame.select_dtypes(["object", "str"]).columns[::2]}
    )
    for library in LIBRARIES.values():
        given = library(frame)
        rebuilt = refitted(model, given)
        same = type(rebuilt) is type(given) and rebuilt.shape == given.shape and types_of(rebuilt) == types_of(given)
        if not same or (isinstance(given, pd.DataFrame) and not rebuilt.index.equals(given.index)):
            return False
    return True


def refitted(model, given):
    """The reconstruction of a frame by a model that is fitted to it for an epoch."""
    options = {} if isinstance(model, ec.LinearAutoencoder) else {"max_epochs": 1}
    return type(model)(model.n_components_, random_state=0, **options).fit(given).reconstruct(given)


def qualities(model, train, test):
    """Of each column: whether it is a number, and what was reached beside the mode or the mean."""
    rebuilt = model.reconstruct(test)
    for column in model.columns_.columns:
        name, known = column.name, test[column.name].notna()
        if not column.kind.width or test[name].nunique() < 2:
            continue
        truth, found = test[name][known], rebuilt[name][known]
        if column.kind.kind in ("category", "ordered", "boolean"):
            yield name, False, (found == truth).mean(), (truth == train[name].mode()[0]).mean()
        else:
            errors = (np.square((values - truth).astype(float)).mean() for values in (found, train[name].mean()))
            yield name, True, *errors


def report(name, estimator, train, test):
    """Print a line; whether the table comes back, and every column better than by the mode or the mean."""
    begin = time.process_time()
    model = estimator.fit(train)
    seconds, found = time.process_time() - begin, list(qualities(model, train, test))
    shares = np.array([(right, mode) for _, is_number, right, mode in found if not is_number]).reshape(-1, 2)
    errors = [error / mean for _, is_number, error, mean in found if is_number]
    worse = [column for column, is_number, own, other in found if (own >= other if is_number else own <= other)]
    is_same = is_equal(model, train[:200]) and model.reconstruct(test).dtypes.equals(test.dtypes)
    print(
        f"  {name:28} {seconds:6.1f} s  equal: {is_same!s:5} categories {shares[:, 0].mean():.3f} "
        f"(mode {shares[:, 1].mean():.3f})  numbers {np.mean(errors):.3f}  not better: {', '.join(worse) or '-'}",
        flush=True,
    )
    return is_same and not worse


def predict(train, test, options):
    """A classifier of the first category or boolean by the other columns, a regressor, and a detector."""
    target = min((name for name in train if train[name].nunique() > 1), key=lambda name: train[name].nunique())
    number = next(name for name in train if pd.api.types.is_float_dtype(train[name]) or train[name].nunique() > 50)
    for cls, y in ((ec.AutoencoderClassifier, target), (ec.AutoencoderRegressor, number)):
        rows, others = train[train[y].notna()], test[test[y].notna()]
        model = cls(ec.Autoencoder(**options, random_state=0), random_state=0).fit(rows.drop(columns=y), rows[y])
        print(f"  {cls.__name__:28} of {y}: score {model.score(others.drop(columns=y), others[y]):.3f}", flush=True)
    detector = ec.AnomalyDetector(random_state=0).fit(train)
    print(
        f"  AnomalyDetector              alarms {(detector.predict(test) == -1).mean():.3f} of held-out rows",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--kinds", nargs="+", default=[kind.__name__ for kind in KINDS])
    parser.add_argument("--seeds", type=int, default=1, help="splits and random states")
    parser.add_argument("--epochs", type=int, help="epochs at most, to try quickly")
    given = parser.parse_args()
    options = {} if given.epochs is None else {"max_epochs": given.epochs}
    warnings.simplefilter("ignore")
    failed = []
    for path, seed in itertools.product(given.files, range(given.seeds)):
        frame = pd.read_csv(path, skipinitialspace=True)
        frame = frame.sample(min(given.rows, len(frame)), random_state=seed)
        train, test = frame[len(frame) // 3 :], frame[: len(frame) // 3]
        print(f"\n{path}: {len(frame)} rows, {frame.shape[1]} columns, seed {seed}")
        for name, estimator in estimators(frame.shape[1], options, given.kinds, seed):
            if not report(name, estimator, train, test) and type(estimator) is ec.Autoencoder:
                failed.append(f"{name} on {path}, seed {seed}")
        if given.kinds == parser.get_default("kinds"):
            predict(train, test, options)
    if failed:
        sys.exit(f"not as claimed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
