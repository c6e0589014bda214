"""Large frames: their cells are made a few rows at a time, and are the same bits as those of a whole array."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from eigencode import Autoencoder, AutoencoderClassifier, AutoencoderRegressor, AutoencoderSearch, StackedAutoencoder
from eigencode.data import compact_rows, mapped_rows, sources
from eigencode.data.compact_rows import CompactRows
from eigencode.data.gaps import hide_gaps
from eigencode.data.rows import ResidentRows
from eigencode.data.scaling import Scaler
from eigencode.data.sources import ArraySource
from eigencode.data.tables import Schema, compact
from eigencode.data.tables.compact import CompactCells
from eigencode.errors import DataError
from eigencode.training.rng import generator


def mixed(n=1000):
    """Columns of all kinds and of many types, with gaps."""
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random(n) < 0.7, 0.0, rng.lognormal(8, 2, n))
    numbers = rng.normal(size=n)
    return pd.DataFrame(
        {
            "number": np.where(rng.random(n) < 0.1, np.nan, numbers),
            "single": (numbers + rng.normal(size=n)).astype(np.float32),
            "text": rng.choice(["x", "y", None], n),
            "small": rng.integers(0, 5, n).astype(np.int8),
            "category": pd.Categorical(np.where(numbers > 0, "u", "v"), categories=["w", "v", "u"]),
            "truth": rng.random(n) < 0.3,
            "unknown": pd.array(rng.choice([True, False, None], n), dtype="boolean"),
            "time": pd.date_range("2020", periods=n, freq="h", tz="Europe/Paris"),
            "amount": amounts,
            "mixed": pd.Series(rng.choice(np.array(["1", 2, 3.5, None], dtype=object), n), dtype=object),
            "nullable": pd.array(rng.choice([1, 2, None], n), dtype="Int64"),
            "numerals": rng.choice(np.arange(100).astype(str), n),
            "name": [f"{number:x} of a long list" for number in rng.permutation(n)],
        },
        index=np.arange(n) * 2,
    )


@pytest.fixture
def frame(monkeypatch):
    monkeypatch.setattr(compact, "COMPACT_FROM", 1000)
    return mixed()


@pytest.mark.versions
@pytest.mark.parametrize("rows", [slice(3, 400), slice(0, 90, 7), np.array([5, 1, 999, 5]), np.arange(1000) % 3 == 0])
def test_cells_of_some_rows_are_those_of_all(frame, monkeypatch, rows):
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    assert isinstance(cells, CompactCells)
    monkeypatch.setattr(compact, "COMPACT_FROM", 10**9)
    whole = schema.encode(frame)
    assert cells.shape == whole.shape
    np.testing.assert_array_equal(np.asarray(cells), whole)
    np.testing.assert_array_equal(cells[rows], whole[rows])
    assert cells[rows].dtype == whole.dtype


def rows_of(frame, kind, monkeypatch, dtype=torch.float32, **split):
    schema = Schema.infer(frame)
    cells = schema.encode(frame)
    whole = np.asarray(cells)
    scaler = Scaler.fit(ArraySource(whole), "standard")
    if kind is CompactRows:
        return CompactRows.of(cells, scaler, dtype, **split)
    kind = np.float64 if dtype == torch.float64 else np.float32
    scaled = np.concatenate(list(scaler.chunks(whole, kind)))
    return ResidentRows(hide_gaps(torch.from_numpy(scaled)), **split)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_those_of_resident_rows(frame, monkeypatch, dtype):
    split = {"training": torch.arange(100, 1000), "validation_numbers": torch.arange(100), "is_separate": True}
    small, usual = (rows_of(frame, kind, monkeypatch, dtype, **split) for kind in (CompactRows, ResidentRows))
    assert small.n_bytes < usual.n_bytes
    assert (small.n_usable, small.has_gaps, small.n_features) == (usual.n_usable, True, usual.n_features)
    pairs = [
        (small.sample(50), usual.sample(50)),
        (small.representative(), usual.representative()),
        (small.gather(torch.tensor([[1, 2], [3, 3]])), usual.gather(torch.tensor([[1, 2], [3, 3]]))),
        *zip(small.validation(30), usual.validation(30), strict=True),
        *zip(small.batches(generator(0, "s"), 64), usual.batches(generator(0, "s"), 64), strict=True),
    ]
    for found, wanted in pairs:
        assert torch.equal(found.x, wanted.x)
        assert torch.equal(found.observed, wanted.observed)


@pytest.mark.versions
def test_a_model_of_compact_rows_is_the_same_model(frame, monkeypatch):
    fitted = {}
    for least in (1000, 10**9):
        monkeypatch.setattr(compact, "COMPACT_FROM", least)
        weights = np.arange(1000) % 5 + 1.0
        fitted[least] = Autoencoder(3, max_epochs=3, random_state=0).fit(frame, sample_weight=weights)
    one, other = fitted.values()
    for name, tensor in one.composition_.state_dict().items():
        assert torch.equal(tensor, other.composition_.state_dict()[name]), name
    assert [row["validation_objective"] for row in one.history_] == [
        row["validation_objective"] for row in other.history_
    ]


def test_the_start_of_many_rows_is_made_from_a_sample(frame, monkeypatch):
    whole = Autoencoder(3, max_epochs=2, random_state=0).fit(frame)
    for module in (mapped_rows, compact_rows):
        monkeypatch.setattr(module, "REPRESENTATIVE_CELLS", 300 * 40)
    part = Autoencoder(3, max_epochs=2, random_state=0).fit(frame)
    assert part.best_objective_ == pytest.approx(whole.best_objective_, rel=0.15)


@pytest.mark.versions
def test_answers_for_a_large_frame_are_those_for_a_small_one(frame, monkeypatch):
    """The same rows in one array or in chunks of 300 rows give the same frames, and the same numbers up to rounding."""
    model = Autoencoder(3, max_epochs=3, random_state=0).fit(frame)
    answers = {}
    for least in (1000, 10**9):
        monkeypatch.setattr(compact, "COMPACT_FROM", least)
        monkeypatch.setattr(sources, "CHUNK_ROWS", 300 if least == 1000 else 8192)
        answers[least] = [model.transform(frame), model.score_samples(frame), model.reconstruction_error(frame)]
        answers[least] += [model.reconstruct(frame), model.impute(frame)]
    for found, wanted in zip(answers[1000], answers[10**9], strict=True):
        if isinstance(wanted, pd.DataFrame):
            pd.testing.assert_frame_equal(found, wanted, rtol=1e-5)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


MADE = {
    "weights": lambda model, frame, y: model.fit(frame, sample_weight=np.arange(1000) % 5),
    "validation rows": lambda model, frame, y: model.fit(frame[:700], validation_data=frame[700:]),
    "few validation rows": lambda model, frame, y: model.fit(frame[20:], validation_data=frame[:20]),
    "a stack": lambda model, frame, y: StackedAutoencoder(layers=(9, 3), max_epochs=1, random_state=0).fit(frame),
    "a search": lambda model, frame, y: AutoencoderSearch(model, {"n_components": [2]}, cv=2, random_state=0).fit(
        frame
    ),
    "classes": lambda model, frame, y: AutoencoderClassifier(model, max_epochs=1, random_state=0).fit(frame, y > 0),
    "labels": lambda model, frame, y: AutoencoderRegressor(model, max_epochs=1, random_state=0).fit(
        frame[:700], y[:700], validation_data=(frame[700:], y[700:])
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_all_ways_to_fit_a_large_frame_leave_it_compact(frame, monkeypatch, name):
    """Each gives the answers of a fit to an array of all cells, which is never made."""
    y, fitted = frame["single"].to_numpy() + np.random.default_rng(1).normal(size=1000), {}
    for least in (10**9, 100):
        monkeypatch.setattr(compact, "COMPACT_FROM", least)
        if least == 100:
            monkeypatch.setattr(CompactCells, "__array__", lambda *_, **__: pytest.fail("all cells at once"))
        fitted[least] = MADE[name](Autoencoder(3, max_epochs=1, random_state=0), frame, y)
    one, other = (model.predict if hasattr(model, "predict") else model.transform for model in fitted.values())
    monkeypatch.setattr(compact, "COMPACT_FROM", 10**9)
    np.testing.assert_allclose(one(frame), other(frame), rtol=1e-5, atol=1e-5)


def test_an_infinite_cell_of_a_large_frame_is_named(frame):
    frame.loc[1500, "number"] = np.inf
    with pytest.raises(DataError, match=r"infinite cells.*column 'number' \(row 750"):
        Autoencoder(3).fit(frame)


ANSWERS = {
    "reconstruct": lambda model, frame: model.reconstruct(frame),
    "inverse_transform": lambda model, frame: model.inverse_transform(model.transform(frame)),
    "impute": lambda model, frame: model.impute(frame),
    "draws": lambda model, frame: model.impute(frame, n_draws=2, random_state=0),
    "sample": lambda model, frame: model.sample(len(frame), random_state=0),
    "transform": lambda model, frame: model.transform(frame),
    "score_samples": lambda model, frame: model.score_samples(frame),
}


@pytest.fixture(scope="module")
def of_labels():
    """Ten columns of twenty labels, which are 210 cells, and a model."""
    rng = np.random.default_rng(0)
    codes, labels = rng.integers(-1, 20, (6_000, 10)), [f"label {i}" for i in range(20)]
    frame = pd.DataFrame({f"x{j}": pd.Categorical.from_codes(codes[:, j], labels) for j in range(10)})
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(frame[:300])
    model.fit_density(frame[:300])
    return frame, model


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_takes_the_memory_of_all_cells(of_labels, monkeypatch, name):
    """All are 10 MB; blocks of 300 rows are .5 MB each, and the frame is .1 MB."""
    frame, model = of_labels
    monkeypatch.setattr(compact, "COMPACT_FROM", 1000)
    monkeypatch.setattr(sources, "CHUNK_ROWS", 300)
    tracemalloc.start()
    try:
        answer = ANSWERS[name](model, frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answer) == (2 if name == "draws" else len(frame))
    assert peak < 4e6
