"""scikit-learn's MLPRegressor, the rows as their own target."""

from scaled import Scaled
from sklearn.neural_network import MLPRegressor
from work import Unsupported


def fit(work, rows, epochs, mark, options):
    if work.kind != "plain":
        raise Unsupported(f"scikit-learn has no {work.kind} networks")
    data = Scaled(work, rows)
    batch = {} if work.batch is None else {"batch_size": work.batch}
    widths = (*work.hidden, work.n_components, *work.hidden[::-1])
    model = MLPRegressor(hidden_layer_sizes=widths, random_state=0, **batch)
    for _ in range(epochs):
        # One pass of `fit` over all rows, the optimiser's moments kept.
        model.partial_fit(data.rows, data.rows)
        mark(data.reconstruct(model.predict))
    return {}
