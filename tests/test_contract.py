"""What callers pass in and get back, asked of every estimator."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from eigencode import (
    Autoencoder,
    AutoencoderSearch,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)

AUTOENCODERS = [
    Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0),
    LinearAutoencoder(2),
    DenoisingAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0),
    ContractiveAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0),
    VariationalAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0),
    SparseAutoencoder(4, active=1, max_epochs=2, random_state=0),
    StackedAutoencoder(2, hidden=(4,), max_epochs=2, random_state=0),
]
SEARCH = AutoencoderSearch(LinearAutoencoder(), {"n_components": [1, 2]}, cv=2, random_state=0)

TRANSFORMERS = [*AUTOENCODERS, SEARCH]


def by_class(estimator):
    return type(estimator).__name__


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(40, 3)) @ np.diag([3.0, 1.0, 0.5]) + [0.0, 10.0, 5.0]


@pytest.fixture
def frame(rows):
    return pd.DataFrame(rows, columns=["a", "b", "c"], index=[f"row {i}" for i in range(len(rows))])


# -- what transform gives


@pytest.mark.draws_globally
@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_set_output_transform,
        estimator_checks.check_set_output_transform_pandas,
        estimator_checks.check_set_output_transform_polars,
        estimator_checks.check_global_output_transform_pandas,
        estimator_checks.check_global_set_output_transform_polars,
    ],
    ids=lambda check: check.__name__,
)
@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_scikit_learns_checks_of_set_output(estimator, check):
    check(by_class(estimator), estimator)


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
def test_a_frame_of_codes_has_the_rows_index_and_the_components_names(estimator, frame):
    model = clone(estimator).set_output(transform="pandas")
    for codes in (model.fit_transform(frame), model.transform(frame)):
        assert isinstance(codes, pd.DataFrame)
        assert codes.index.equals(frame.index)
        assert list(codes.columns) == list(model.get_feature_names_out())
        np.testing.assert_array_equal(codes, clone(estimator).fit(frame).transform(frame))
    assert isinstance(model.set_output(transform="polars").transform(frame), pl.DataFrame)
    assert isinstance(model.set_output(transform="default").transform(frame), np.ndarray)


@pytest.mark.parametrize("estimator", TRANSFORMERS, ids=by_class)
def test_a_context_and_a_pipeline_ask_for_frames_too(estimator, frame):
    model = clone(estimator).fit(frame)
    with sklearn.config_context(transform_output="polars"):
        codes = model.transform(frame)
    assert isinstance(codes, pl.DataFrame)
    pipeline = make_pipeline(StandardScaler(), clone(estimator)).set_output(transform="pandas").fit(frame)
    assert pipeline.transform(frame).index.equals(frame.index)
    assert list(pipeline.transform(frame).columns) == list(pipeline[-1].get_feature_names_out())


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_the_first_components_of_an_ordered_code_have_their_names(container, frame):
    model = Autoencoder(3, hidden=(4,), ordered=True, max_epochs=2, random_state=0).fit(frame)
    expected = model.transform(frame)[:, :2]
    first = model.set_output(transform=container).transform(frame, n_components=2)
    assert list(first.columns) == ["autoencoder0", "autoencoder1"]
    np.testing.assert_array_equal(first, expected)
    assert list(model.transform(frame, n_components=1).columns) == ["autoencoder0"]


@pytest.mark.parametrize("estimator", AUTOENCODERS, ids=by_class)
def test_whatever_the_container_of_codes_the_other_answers_are_arrays(estimator, frame):
    model = clone(estimator).set_output(transform="pandas").fit(frame)
    codes = model.transform(frame)
    np.testing.assert_allclose(model.inverse_transform(codes), model.reconstruct(frame), rtol=1e-6)
    assert model.fit_density(frame).sample(3).shape == (3, 3)
