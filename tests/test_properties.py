"""Whatever rows come: an answer, or an error of the library. Nothing else, and nothing half done."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from eigencode import Autoencoder, LinearAutoencoder
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.errors import EigencodeError

# Rows whose squares float64 lacks are told of; the answers in scaled units are whole.
pytestmark = pytest.mark.filterwarnings("ignore:Squares of numbers of such sizes")

quick = settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
ANSWERS = ["transform", "reconstruct", "reconstruction_error", "score_samples"]
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)
NUMBERS = {
    "float64": hnp.arrays(np.float64, SHAPES, elements=st.floats(allow_nan=True, allow_infinity=True)),
    "float32": hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "moderate": hnp.arrays(np.float64, SHAPES, elements=st.floats(-1e6, 1e6)),
    "int8": hnp.arrays(np.int8, SHAPES),
    "uint64": hnp.arrays(np.uint64, SHAPES),
    "bool": hnp.arrays(np.bool_, SHAPES),
    "any": hnp.arrays(st.sampled_from([np.dtype("U3"), np.dtype("M8[s]"), np.dtype(object)]), SHAPES),
}


def is_of_ours(error):
    """One of our errors, or scikit-learn's about the same: a sentence, and no surprise from deep inside."""
    return isinstance(error, EigencodeError) or (isinstance(error, ValueError | TypeError) and len(str(error)) > 20)


def ask_everything(model, rows):
    """Call every public method, check that answers are whole and finite, and return them."""
    try:
        model.fit(rows)
    except Exception as error:
        if not is_of_ours(error):
            raise
        return None
    answers = {name: getattr(model, name)(rows) for name in ANSWERS}
    answers["inverse_transform"] = model.inverse_transform(answers["transform"])
    n, d = np.shape(rows)
    shapes = {name: answer.shape for name, answer in answers.items()}
    assert shapes == {
        "transform": (n, model.n_components_),
        "reconstruct": (n, d),
        "inverse_transform": (n, d),
        "reconstruction_error": (n,),
        "score_samples": (n,),
    }
    assert np.isfinite(answers["transform"]).all()
    assert np.isfinite(answers["reconstruct"]).all()
    assert np.isfinite(model.score(rows))
    assert len(model.get_feature_names_out()) == model.n_components_
    return answers


@pytest.mark.parametrize("kind", NUMBERS)
def test_an_answer_or_an_error_of_the_library(kind):
    @quick
    @given(rows=NUMBERS[kind], n_components=st.one_of(st.just("auto"), st.integers(1, 15)))
    def holds(rows, n_components):
        ask_everything(Autoencoder(n_components, hidden=(4,), max_epochs=1, random_state=0), rows)

    holds()


@quick
@given(
    rows=NUMBERS["moderate"], likelihood=st.sampled_from(["gaussian", "laplace", "student_t", "bernoulli", "poisson"])
)
def test_every_likelihood_answers_or_names_the_column(rows, likelihood):
    ask_everything(Autoencoder(2, hidden=(4,), likelihood=likelihood, max_epochs=1, random_state=0), rows)


WEIGHTS = st.one_of(
    st.none(),
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=1, max_side=12), elements=st.floats(0, 1e308)),
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=1, max_dims=1, max_side=12), elements=st.floats()),
)
BLOCKS = st.one_of(
    NUMBERS["moderate"],
    hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats()),
    hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-1e30, 1e30)),
    hnp.arrays(np.int8, st.tuples(st.integers(1, 9), st.just(3)), elements=st.integers(0, 2)),
)


def attempt(call):
    """Whether a call gave an answer, or else an error of the library."""
    try:
        call()
    except Exception as error:
        if not is_of_ours(error):
            raise
        return False
    return True


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "poisson"])
@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
def test_a_stream_learns_from_a_block_or_says_why_not(likelihood, begin):
    first = np.random.default_rng(0).poisson(2.0, size=(8, 3))
    first = first > 2 if likelihood == "bernoulli" else first
    begun = getattr(Autoencoder(2, hidden=(4,), likelihood=likelihood, max_epochs=1, random_state=0), begin)(first)
    n_learned = 0

    @quick
    @given(block=BLOCKS, weights=WEIGHTS, batch_size=st.integers(1, 5))
    def holds(block, weights, batch_size):
        nonlocal n_learned
        model = copy.deepcopy(begun).set_params(batch_size=batch_size)
        weights = None if weights is None or len(weights) < len(block) else weights[: len(block)]
        if attempt(lambda: model.partial_fit(block, sample_weight=weights)):
            n_learned += 1
        else:
            assert vars(model).keys() == vars(begun).keys()
            np.testing.assert_array_equal(model.transform(first), begun.transform(first))
        for name in ANSWERS:
            assert np.isfinite(getattr(model, name)(first)).all()
        model.partial_fit(first)  # the stream goes on

    holds()
    assert n_learned > 3  # how many blocks fit the likelihood is up to the version of hypothesis


@quick
@given(rows=NUMBERS["float64"], weights=WEIGHTS, leave_after=st.integers(0, 3))
def test_iterating_answers_at_every_step_or_says_why_not(rows, weights, leave_after):
    weights = None if weights is None or len(weights) < len(rows) else weights[: len(rows)]
    model = Autoencoder(2, hidden=(4,), max_epochs=3, random_state=0)
    found = []
    if not attempt(lambda: found.append(model.iter_fit(rows, sample_weight=weights))):
        assert not [name for name in vars(model) if name.endswith("_")]
        return
    (epochs,) = found
    for index in range(leave_after):
        if not attempt(lambda: next(epochs, None)):
            break
        assert np.isfinite(model.transform(rows)).all()
        assert len(model.history_) == index + 2
    epochs.close()
    assert np.isfinite(model.reconstruct(rows)).all()
    assert not model.composition_.training


def test_infinities_of_both_signs_are_refused_without_a_warning():
    with pytest.raises(ValueError, match="infinite cells"):
        Autoencoder(2).fit(np.array([[-np.inf, np.inf], [0, 1]]))


@pytest.mark.versions
@settings(quick, max_examples=12)
@given(data=st.data())
def test_frames_of_mixed_columns(data):
    columns = data.draw(st.lists(st.sampled_from(["i", "f", "b", "s", "gap"]), min_size=1, max_size=5))
    rng = np.random.default_rng(0)
    make = {
        "i": rng.integers(0, 9, 8), "f": rng.normal(size=8), "b": rng.random(8) < 0.5,
        "s": np.array(list("abcdefgh"), dtype=object), "gap": np.array([np.nan, *range(7)]),
    }  # fmt: skip
    frame = pd.DataFrame({f"{index}{kind}": make[kind] for index, kind in enumerate(columns)})
    model = Autoencoder(1, hidden=(2,), max_epochs=1, random_state=0)
    rebuilt = model.fit(frame).reconstruct(frame)
    assert rebuilt.dtypes.to_dict() == frame.dtypes.to_dict()
    numbers = rebuilt[[name for name in frame if not name.endswith("s")]]
    assert np.isfinite(numbers.astype(float)).all(axis=None)
    assert rebuilt[[name for name in frame if name.endswith("s")]].isin(list("abcdefgh")).all(axis=None)
    for name in ("transform", "reconstruction_error", "score_samples"):
        assert np.isfinite(getattr(model, name)(frame)).all()


@quick
@given(rows=NUMBERS["moderate"], scale=st.sampled_from(["auto", "common", "standard", "none"]))
def test_scaling_there_and_back(rows, scale):
    scaler = Scaler.fit(ArraySource(rows), scale)
    scaled = scaler.transform(rows)
    assert np.isfinite(scaled).all()
    assert (np.abs(scaled) <= scaler.limit).all()
    np.testing.assert_allclose(
        scaler.inverse_transform(scaled), rows, rtol=1e-9, atol=1e-9 * max(1, np.abs(rows).max())
    )


@quick
@given(rows=NUMBERS["moderate"].filter(lambda rows: len(rows) > 1), n_components=st.integers(1, 6))
def test_more_components_never_hurt_a_linear_model(rows, n_components):
    fewer, more = (
        LinearAutoencoder(k, scale="none").fit(rows).reconstruction_error(rows).mean()
        for k in (n_components, n_components + 1)
    )
    assert more <= fewer * (1 + 1e-9) + 1e-9 * max(1.0, np.square(rows).sum())


def test_a_refused_fit_leaves_a_fitted_model_as_it_was(cancer):
    model = Autoencoder(2, hidden=(4,), max_epochs=2, random_state=0).fit(cancer)
    before = model.transform(cancer)
    for bad in (np.full((5, 30), np.nan), np.array([["a"] * 30] * 3)):
        with pytest.raises(ValueError, match="any number|not numbers"):
            model.fit(bad)
        np.testing.assert_array_equal(model.transform(cancer), before)
