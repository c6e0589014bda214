"""Plots: they show the numbers given, and change no global state of matplotlib."""

import io
import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, ParameterGrid

from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderSearch,
    DenoisingAutoencoder,
    VariationalAutoencoder,
    plots,
)
from eigencode.data import block_sources, named_files
from eigencode.errors import DataError, OptionError
from eigencode.plots import (
    CalibrationDisplay,
    CodeDisplay,
    ComponentDisplay,
    DenoisingDisplay,
    JacobianDisplay,
    ReasonsDisplay,
    ReconstructionDisplay,
    SampleDisplay,
    SearchDisplay,
    SizeDisplay,
    TermsDisplay,
    TrainingDisplay,
    TraversalDisplay,
    UnitDisplay,
)
from eigencode.plots.display import MARKERS, PALE, PALETTE
from eigencode.plots.searches import LINE_COLORS
from eigencode.report import findings
from eigencode.words import percent

pytestmark = pytest.mark.versions


def drawn(figure, tmp_path):
    """The figure, once it has really been drawn."""
    figure.savefig(tmp_path / "figure.png")
    return figure


def lines_by_label(figure):
    return {line.get_label().partition(":")[0]: line for line in figure.axes[0].get_lines()}


# -- images


def test_each_image_is_above_its_reconstructions(digits, tmp_path):
    lines = {"autoencoder": digits[:5] + 1.0, "baseline": digits[:5] - 2.0}
    display = ReconstructionDisplay.from_predictions(digits[:5], lines, shape=(8, 8))
    drawn(display.figure_, tmp_path)
    (image,) = display.ax_.get_images()
    low, high = digits[:5].min(), digits[:5].max()
    for i, stack in enumerate([digits[:5], *lines.values()]):
        for column in range(5):
            shown = image.get_array()[10 * i + 1 : 10 * i + 9, 10 * column + 1 : 10 * column + 9]
            np.testing.assert_allclose(shown, (stack[column].reshape(8, 8).clip(low, high) - low) / (high - low))
    assert list(display.images) == ["original", "autoencoder", "baseline"]
    np.testing.assert_array_equal(display.images["baseline"].reshape(5, -1), digits[:5] - 2.0)


def test_lines_of_images_show_their_error(digits):
    lines = {"autoencoder": digits[:3] + 0.5, "baseline": digits[:3] * 0}
    display = ReconstructionDisplay.from_predictions(digits[:3], lines, shape=(8, 8))
    nothing = np.square(digits[:3]).sum(1).mean()
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert labels == ["original", "autoencoder\nerror 16", f"baseline\nerror {nothing:.4g}"]


def test_images_need_not_be_square(tmp_path):
    rows = np.arange(12.0).reshape(2, 6)
    display = ReconstructionDisplay.from_predictions(rows, {"same": rows}, shape=(2, 3))
    assert drawn(display.figure_, tmp_path)
    assert display.ax_.get_images()[0].get_array().shape == (2 * 4, 2 * 5)


@pytest.mark.parametrize(("other", "shape"), [((3, 64), (8, 8)), ((4, 64), (8, 7)), ((4, 32), (8, 8))])
def test_images_of_wrong_shapes(other, shape):
    with pytest.raises(DataError, match=r"Rows of images of shape .* must form arrays of"):
        ReconstructionDisplay.from_predictions(np.zeros((4, 64)), {"other": np.zeros(other)}, shape=shape)


@pytest.fixture(scope="module")
def of_images():
    images = load_digits().images
    options = {"likelihood": "gaussian", "image_shape": "auto", "max_epochs": 1, "random_state": 0}
    return images, DenoisingAutoencoder(3, noise="gaussian", level=0.5, **options).fit(images[:400])


def test_models_of_images_show_images(of_images, tmp_path):
    images, model = of_images
    display = ReconstructionDisplay.from_estimator(model, images, n_images=4)
    assert list(display.images) == ["original", "DenoisingAutoencoder", "linear baseline"]
    np.testing.assert_array_equal(display.images["original"], images[:4])
    np.testing.assert_allclose(display.images["DenoisingAutoencoder"], model.reconstruct(images[:4]), rtol=1e-6)
    error = model.reconstruction_error(images[:4]).mean()
    assert display.errors["DenoisingAutoencoder"] == pytest.approx(error, rel=1e-4)
    drawn(display.figure_, tmp_path)


def test_damaged_images_are_what_is_reconstructed(of_images, tmp_path):
    images, model = of_images
    display = DenoisingDisplay.from_estimator(model, images[:200], n_images=200)
    clean, damaged, rebuilt = display.images.values()
    scaled = np.delete((damaged - clean).reshape(200, -1) / model.scaler_.divisor, model.scaler_.constant, axis=1)
    assert scaled.var() == pytest.approx(0.5**2, rel=0.05)
    np.testing.assert_allclose(rebuilt, model.as_images(model.reconstruct(damaged).reshape(200, -1)), rtol=1e-4)
    with pytest.raises(OptionError, match="without damaged rows"):
        DenoisingDisplay.from_estimator(
            Autoencoder(2, max_epochs=0).fit(images[:50].reshape(50, -1)), images.reshape(len(images), -1)
        )


@pytest.mark.parametrize("name", ["model", "ContractiveAutoencoder"])
def test_names_of_lines_are_not_cut(name):
    rows = np.random.default_rng(0).random((10, 64))
    display = ReconstructionDisplay.from_predictions(rows, {name: rows, "other": rows}, shape=(8, 8))
    picture = matplotlib.image.imread(io.BytesIO(display._repr_png_()))[..., :3]
    assert (picture[:, :2] == 1).all()


def test_images_of_files_are_the_first_ones(of_images, tmp_path):
    images, model = of_images
    np.save(tmp_path / "images.npy", images)
    for display in (ReconstructionDisplay, DenoisingDisplay):
        shown = display.from_estimator(model, tmp_path / "images.npy", n_images=4).images["original"]
        np.testing.assert_array_equal(shown, images[:4])


def test_the_last_line_of_samples_may_be_shorter(of_images):
    images, model = of_images
    display = SampleDisplay.from_estimator(model, images, n_images=13)
    (image,) = display.ax_.get_images()
    shown = image.get_array()
    assert shown.shape == (20, 100)
    assert (shown[10:, :30] < 1).any()
    assert (shown[10:, 30:] == 1).all()


def test_a_traversal_decodes_each_component_by_itself(of_images):
    images, model = of_images
    display = TraversalDisplay.from_estimator(model, images[:100], components=[2, 0])
    assert list(display.images) == ["component 3", "component 1"]
    codes = model.transform(images[:100])
    code = codes.mean(0)
    code[2] -= 2 * codes[:, 2].std()
    expected = model.as_images(np.asarray(model.inverse_transform(code[None])).reshape(1, -1))
    np.testing.assert_allclose(display.images["component 3"][0], expected[0], rtol=1e-4, atol=1e-4)


def test_samples_are_those_of_the_model(of_images, tmp_path):
    images, model = of_images
    display = SampleDisplay.from_estimator(model, images, n_images=20)
    np.testing.assert_allclose(
        display.drawn, model.as_images(np.asarray(model.sample(20, random_state=0)).reshape(20, -1))
    )
    (image,) = drawn(display.figure_, tmp_path).axes[0].get_images()
    assert image.get_array().shape == (20, 100)


# -- rows


def test_cells_of_rows_are_points(fitted, cancer, tmp_path):
    display = ReconstructionDisplay.from_estimator(fitted, cancer)
    expected = (cancer - cancer.mean(0)) / cancer.std(0)
    np.testing.assert_allclose(display.images["original"], expected, atol=1e-9)
    rebuilt = (fitted.reconstruct(cancer) - cancer.mean(0)) / cancer.std(0)
    np.testing.assert_allclose(display.images["Autoencoder"], rebuilt, atol=1e-4)
    assert len(drawn(display.figure_, tmp_path).axes[0].collections) == 2


def test_labels_are_left_out_and_alone_refused():
    rows = pd.DataFrame({"kind": list("ab") * 30, "x": np.arange(60.0)})
    model = Autoencoder(1, max_epochs=0, random_state=0).fit(rows)
    assert ReconstructionDisplay.from_estimator(model, rows).images["original"].shape == (60, 1)
    with pytest.raises(DataError, match="columns of numbers"):
        ReconstructionDisplay.from_estimator(
            Autoencoder(1, max_epochs=0, random_state=0).fit(rows[["kind"]]), rows[["kind"]]
        )


def test_rows_drawn_are_among_those_given(fitted, cancer, tmp_path):
    display = SampleDisplay.from_estimator(fitted, cancer)
    assert display.drawn.shape == display.given.shape == cancer.shape
    given, own = drawn(display.figure_, tmp_path).axes[0].collections
    plane = PCA(2).fit_transform(np.concatenate([display.given, display.drawn]))
    points = np.concatenate([given.get_offsets(), own.get_offsets()])
    np.testing.assert_allclose(np.abs(points), np.abs(plane), atol=1e-6)


def test_a_traversal_of_rows_is_a_curve_for_each_column(fitted, cancer, tmp_path):
    display = TraversalDisplay.from_estimator(fitted, cancer, components=[1])
    lines = drawn(display.figure_, tmp_path).axes[0].get_lines()
    moved = np.argsort(-np.ptp(display.images["component 2"], axis=0), kind="stable")
    np.testing.assert_array_equal(lines[0].get_ydata(), display.images["component 2"][:, moved[0]])
    assert lines[0].get_label() == f"x{moved[0]}"
    with pytest.raises(OptionError, match="numbered from 0 to 3"):
        TraversalDisplay.from_estimator(fitted, cancer, components=[4])


# -- codes


def test_each_class_has_its_points_colour_and_name(tmp_path):
    codes = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.repeat(["ant", "bee", "cat"], 20)
    figure = drawn(CodeDisplay(codes, labels).plot().figure_, tmp_path)
    (axes,) = figure.axes
    for number, name in enumerate(["ant", "bee", "cat"]):
        cloud, own = axes.collections[number], codes[labels == name]
        np.testing.assert_array_equal(cloud.get_offsets(), own)
        np.testing.assert_allclose(cloud.get_facecolor()[0, :3], to_rgb(PALETTE[number]))
        assert axes.texts[number].get_text() == name
        np.testing.assert_allclose(axes.texts[number].get_position(), np.median(own, axis=0))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ant", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("component 1", "component 2")


def test_longer_codes_are_projected_onto_their_principal_axes():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3
    axes = CodeDisplay(codes).plot().ax_
    pca = PCA(2).fit(codes)
    found, expected = np.asarray(axes.collections[0].get_offsets()), pca.transform(codes)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    first, second = pca.explained_variance_ratio_
    assert axes.get_xlabel() == f"first principal axis of the 5 components ({percent(first)})"
    assert axes.get_ylabel() == f"second principal axis of the 5 components ({percent(second)})"


def test_more_classes_than_colours_have_different_markers():
    codes = np.random.default_rng(0).normal(size=(24, 2))
    axes = CodeDisplay(codes, np.arange(24) // 2).plot().ax_
    looks = {(tuple(cloud.get_facecolor()[0]), len(cloud.get_paths()[0].vertices)) for cloud in axes.collections}
    assert len(axes.collections) == 12
    assert len(looks) == 12
    assert len(set(MARKERS)) == len(MARKERS)


def test_both_axes_have_one_scale(tmp_path):
    codes = np.random.default_rng(0).normal(size=(50, 2)) * [100, 1]
    (axes,) = drawn(CodeDisplay(codes).plot().figure_, tmp_path).axes
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_classes_go_with_their_rows_where_some_of_a_file_are_drawn(tmp_path, monkeypatch):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(300, 4)), columns=list("abcd"))
    X.to_parquet(tmp_path / "rows.parquet", row_group_size=50, engine="pyarrow")
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(tmp_path / "rows.parquet")
    monkeypatch.setattr(named_files, "STREAMED_FROM", 1000)
    monkeypatch.setattr(findings, "MOST_ROWS", 60)
    monkeypatch.setattr(block_sources, "SAMPLE_ROWS", 90)
    display = CodeDisplay.from_estimator(model, tmp_path / "rows.parquet", np.arange(300))
    np.testing.assert_allclose(display.codes, model.transform(X)[display.labels], rtol=1e-5)


def test_codes_that_cannot_be_drawn(fitted, cancer):
    with pytest.raises(DataError, match=r"one label for each row\. Got 4 for"):
        CodeDisplay.from_estimator(fitted, cancer, np.zeros(4))
    with pytest.raises(DataError, match=r"at least two components\. Got the shape \(5, 1\)"):
        CodeDisplay(np.zeros((5, 1)))
    with pytest.raises(DataError, match=r"one label for each code\. Got \(4,\) for 5 codes"):
        CodeDisplay(np.zeros((5, 2)), np.zeros(4))


# -- history


def test_the_curves_are_the_history(fitted, tmp_path):
    lines = lines_by_label(drawn(TrainingDisplay.from_estimator(fitted).figure_, tmp_path))
    epochs = [row["epoch"] for row in fitted.history_]
    held_out = [row["validation_objective"] for row in fitted.history_]
    np.testing.assert_array_equal(lines["validation rows, after the epoch"].get_xydata().T, [epochs, held_out])
    training = [row["training_objective"] for row in fitted.history_[1:]]
    np.testing.assert_array_equal(lines["training rows, during the epoch"].get_xydata().T, [epochs[1:], training])
    assert set(lines["linear baseline"].get_ydata()) == {fitted.baseline_.history_[0]["validation_objective"]}
    best = fitted.best_epoch_
    assert lines["kept"].get_xydata().tolist() == [[best, held_out[best]]]
    assert best > 0


def test_the_terms_are_drawn_beside_their_values_at_the_weights_kept(cancer, fitted, tmp_path):
    model = VariationalAutoencoder(2, hidden=(8,), max_epochs=5, random_state=0).fit(cancer)
    lines = lines_by_label(drawn(TermsDisplay.from_estimator(model).figure_, tmp_path))
    best = next(row for row in model.history_ if row["validation_objective"] == model.best_objective_)
    for name in ("reconstruction", "divergence"):
        x, y = lines[name].get_xydata().T
        assert x.tolist() == [row["rows"] for row in model.history_]
        expected = [row[f"validation_{name}"] - best[f"validation_{name}"] for row in model.history_]
        np.testing.assert_allclose(y, expected)
    with pytest.raises(OptionError, match="must have several terms"):
        TermsDisplay.from_estimator(fitted)


def test_high_first_epochs_do_not_flatten_the_curve(cancer):
    model = Autoencoder(n_components=4, hidden=(16,), init="random", max_epochs=30, random_state=0).fit(cancer)
    held_out = [row["validation_objective"] for row in model.history_]
    low, high = TrainingDisplay.from_estimator(model).ax_.get_ylim()
    assert held_out[0] > high
    assert low < min(held_out)
    assert low < model.baseline_.history_[0]["validation_objective"] < high


@pytest.mark.parametrize("fraction", [0, 0.2])
def test_an_untrained_model_is_a_point_on_its_baseline(cancer, fraction, tmp_path):
    model = Autoencoder(n_components=2, max_epochs=0, validation_fraction=fraction, random_state=0).fit(cancer)
    lines = lines_by_label(drawn(TrainingDisplay.from_estimator(model).figure_, tmp_path))
    assert set(lines) == {"linear baseline", "kept"}
    assert lines["kept"].get_ydata() == pytest.approx(lines["linear baseline"].get_ydata()[0])


def test_the_curve_names_its_rows(cancer):
    model = Autoencoder(n_components=2, max_epochs=1, validation_fraction=0, random_state=0).fit(cancer)
    assert "training rows, after the epoch" in lines_by_label(TrainingDisplay.from_estimator(model).figure_)


# -- neighbours


def test_settings_of_matplotlib_are_not_changed(digits, fitted, tmp_path):
    before = dict(matplotlib.rcParams)
    for display in (
        ReconstructionDisplay.from_predictions(digits[:3], {"same": digits[:3]}, shape=(8, 8)),
        CodeDisplay(digits[:50, 10:13]).plot(),
        TrainingDisplay.from_estimator(fitted),
    ):
        drawn(display.figure_, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported():
    use = "import sys, eigencode.plots as plots; [getattr(plots, name) for name in plots.__all__]"
    program = f"{use}; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


def test_a_display_is_drawn_where_it_is_asked_for(fitted):
    own = Figure()
    left, right = own.subplots(1, 2)
    display = TrainingDisplay.from_estimator(fitted, ax=left)
    assert (display.ax_, display.figure_) == (left, own)
    assert display.plot(ax=right).ax_ is right
    assert len(left.lines) == len(right.lines) > 0
    assert display._repr_png_() is None
    assert display.plot()._repr_png_().startswith(b"\x89PNG")
    assert display.figure_ is not own


# -- sizes


def test_sizes_are_drawn_as_they_are(digits):
    model = Autoencoder(5, ordered=True, max_epochs=3, random_state=0).fit(digits[:1500])
    display = SizeDisplay.from_estimator(model, digits[1500:])
    linear, own = display.ax_.get_lines()
    assert list(own.get_xdata()) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(own.get_ydata(), model.reconstruction_error_by_size(digits[1500:], scaled=True))
    scaled = model.scaler_.transform(digits[1500:])
    rest = np.square(scaled - PCA(3).fit(scaled).inverse_transform(PCA(3).fit_transform(scaled))).sum(1).mean()
    assert linear.get_ydata()[3] == pytest.approx(rest, rel=1e-5)
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["PCA of these rows", "Autoencoder"]


def test_a_code_that_is_not_ordered_is_one_point(fitted, cancer):
    display = SizeDisplay.from_estimator(fitted, cancer)
    error = fitted.reconstruction_error(cancer, scaled=True).mean()
    assert display.own == {fitted.n_components_: pytest.approx(error)}


# -- components


def test_units_show_spread_activity_and_dead_ones(tmp_path):
    codes = np.random.default_rng(0).normal(size=(500, 3)).clip([-9, 0, 0], [9, 9, 0])
    display = UnitDisplay(codes, np.array([False, False, True])).plot()
    labels = [label.get_text() for label in drawn(display.figure_, tmp_path).axes[0].get_xticklabels()]
    assert labels == ["1", f"2\n{percent((codes[:, 1] != 0).mean())}", "3\n0 %"]
    medians = [line.get_ydata()[0] for line in display.ax_.lines if line.get_color() in ("#222222", PALETTE[2])]
    assert np.median(codes[:, 0]) in medians


def test_columns_of_components_are_movements_or_correlations(fitted, cancer, tmp_path):
    display = ComponentDisplay.from_estimator(fitted, cancer, by="encoder")
    codes = fitted.transform(cancer)
    assert display.values[4, 1] == pytest.approx(np.corrcoef(cancer[:, 4], codes[:, 1])[0, 1], rel=1e-5)
    image, _ = drawn(display.figure_, tmp_path).axes[0].get_images()[0], None
    assert image.get_array()[4, 1] == display.values[4, 1]
    assert (image.norm.vmin, image.norm.vmax) == (-image.norm.vmax, np.abs(display.values).max())
    assert ComponentDisplay.from_estimator(fitted, cancer).values.min() >= 0
    with pytest.raises(OptionError, match="'decoder' or 'encoder'"):
        ComponentDisplay.from_estimator(fitted, cancer, by="code")


def test_only_columns_of_numbers_have_correlations_with_components():
    rng = np.random.default_rng(0)
    labels = {name: rng.permutation(["a", "b", "c"] * 20) for name in ("one", "two")}
    frame = pd.DataFrame(labels | {"x": rng.normal(size=60), "y": rng.normal(size=60)})[["one", "x", "two", "y"]]
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(frame)
    display = ComponentDisplay.from_estimator(model, frame, by="encoder")
    assert display.names == ["x", "y"]
    assert np.isfinite(display.values).all()
    assert ComponentDisplay.from_estimator(model, frame).names == list(frame)
    model = Autoencoder(2, max_epochs=0, random_state=0).fit(frame[["one", "two"]])
    with pytest.raises(DataError, match="all are labels or constant"):
        ComponentDisplay.from_estimator(model, frame[["one", "two"]], by="encoder")


def test_the_spectrum_is_that_of_the_jacobians(fitted, cancer, tmp_path):
    display = JacobianDisplay.from_estimator(fitted, cancer[:20])
    expected = np.linalg.svd(fitted.jacobian(cancer[:20], scaled=True), compute_uv=False)
    np.testing.assert_allclose(display.singular_values, expected, rtol=1e-4)
    (line, _) = drawn(display.figure_, tmp_path).axes[0].get_lines()
    np.testing.assert_allclose(line.get_ydata(), np.median(display.singular_values, axis=0))


def test_a_streams_history_has_no_validation_curve(digits):
    model = Autoencoder(2, hidden=(8,), random_state=0)
    for block in np.array_split(digits, 4):
        model.partial_fit(block)
    axes = TrainingDisplay.from_estimator(model).ax_
    during, kept = axes.get_lines()
    np.testing.assert_allclose(during.get_ydata(), [row["training_objective"] for row in model.history_])
    assert kept.get_xdata() == [4]


def test_after_a_stream_the_last_row_is_marked(fitted, digits):
    model = Autoencoder(2, hidden=(8,), max_epochs=2, random_state=0).fit(digits).partial_fit(digits[:200])
    lines = lines_by_label(TrainingDisplay.from_estimator(model).figure_)
    assert lines["kept"].get_xydata().tolist() == [[3, model.history_[-1]["training_objective"]]]
    assert "validation rows, after the epoch" in lines


def test_several_evaluations_an_epoch_are_named_so(digits, monkeypatch):
    monkeypatch.setattr("eigencode.fitting.run.MOST_STEPS", 3)
    model = Autoencoder(2, hidden=(8,), max_epochs=2, random_state=0).fit(digits)
    axes = TrainingDisplay.from_estimator(model).ax_
    names = {"training rows, since the last evaluation", "validation rows, at the evaluation"}
    assert axes.get_xlabel() == "rows seen"
    assert names < set(lines_by_label(axes.figure))


# -- searches


def searched(grid, means, errors=0.5, chosen=0, **options):
    """A search with the scores given, in the order of its candidates."""
    search = AutoencoderSearch(Autoencoder(), grid, **options)
    search.cv_results_ = {
        "params": list(ParameterGrid(grid)),
        "mean_test_score": np.array(means, dtype=float),
        "standard_error": np.broadcast_to(np.array(errors, dtype=float), len(means)),
    }
    search.best_index_, search.scoring_ = chosen, options.get("scoring", "log_likelihood")
    return search


def of_search(search, tmp_path=None):
    """The axes of the picture of a search, drawn into a file if there is a folder."""
    display = SearchDisplay.from_estimator(search)
    if tmp_path is not None:
        drawn(display.figure_, tmp_path)
    return display.ax_


def curves(axes):
    """Each drawn line's own line, half error bars and colour, by its name; those without a name as a list."""
    found, unnamed = {}, []
    for container in axes.containers:
        line, _, (bars,) = container
        heights = np.array([np.ptp(segment[:, 1]) / 2 for segment in bars.get_segments() if len(segment)])
        own = (line.get_xydata(), heights, line.get_color())
        if (container.get_label() or "_").startswith("_"):  # None where matplotlib is old
            unnamed.append(own)
        else:
            found[container.get_label()] = own
    return found, unnamed


def mark(axes, name):
    (line,) = (line for line in axes.get_lines() if str(line.get_label()).startswith(name))
    return line


def test_a_search_is_its_means_and_errors_in_lines_of_the_other_parameters(tmp_path):
    grid = {"activation": ["gelu", "tanh"], "n_components": [4, 2, 3]}
    means, errors = [-3, -5, -4, -2.5, -5.5, -3.9], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    axes = of_search(searched(grid, means, errors, chosen=0), tmp_path)
    lines, unnamed = curves(axes)
    assert unnamed == []
    assert list(lines) == ["activation='gelu'", "activation='tanh'"]
    for number, (x, heights, color) in enumerate(lines.values()):
        order = 3 * number + np.array([1, 2, 0])  # from two components to four
        np.testing.assert_array_equal(x, np.stack([[2, 3, 4], np.array(means)[order]], axis=1))
        np.testing.assert_allclose(heights, np.array(errors)[order])
        assert color == LINE_COLORS[number]
    assert mark(axes, "best").get_xydata().tolist() == [[4, -2.5]]
    assert mark(axes, "chosen").get_xydata().tolist() == [[4, -3]]
    assert set(mark(axes, "one standard error below the best").get_ydata()) == {-2.5 - 0.4}
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert set(labels[:2]) == set(lines)
    assert {"best: -2.5", "chosen: -3", "one standard error below the best"} == set(labels[2:])
    assert (axes.get_xlabel(), axes.get_xscale()) == ("n_components", "linear")
    assert axes.get_ylabel() == "validation log-likelihood (nats per row)"


def test_marks_are_on_the_line_of_their_candidate(tmp_path):
    grid = {"activation": ["gelu", "tanh"], "n_components": [1, 2, 3]}
    axes = of_search(searched(grid, [-3, -2, -1, -4, -3, -0.5], chosen=2), tmp_path)
    for name, own in [("best", "activation='tanh'"), ("chosen", "activation='gelu'")]:
        drawn_mark = mark(axes, name)
        (line,) = (container[0] for container in axes.containers if container.get_label() == own)
        np.testing.assert_allclose(
            drawn_mark.get_transform().transform(drawn_mark.get_xydata()),
            line.get_transform().transform(line.get_xydata()[-1:]),
        )
    low, high = axes.get_ylim()
    assert low < -4.5
    assert high > 0


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ([1e-4, 1e-3, 1e-2], "log", ["0.0001", "0.001", "0.01"]),
        ([2, 4, 8, 32], "log", ["2", "4", "8", "32"]),
        ([0.0, 0.1, 5.0], "linear", None),
        ([2, 4, 8], "linear", None),
        ([(8,), (), "auto"], "linear", ["(8,)", "()", "auto"]),
        ([True, False], "linear", ["True", "False"]),
        ([2, "auto"], "linear", ["2", "auto"]),
    ],
)
def test_the_axis_fits_the_values(values, scale, ticks, tmp_path):
    search = searched({"value": values}, -np.arange(1.0, 1 + len(values)))
    axes = of_search(search, tmp_path)
    assert (axes.get_xlabel(), axes.get_xscale()) == ("value", scale)
    ((x, _, _),) = curves(axes)[0].values()
    if ticks is None:
        assert x[:, 0].tolist() == values
        return
    assert [label.get_text() for label in axes.get_xticklabels()] == ticks
    expected = values if scale == "log" else list(range(len(values)))
    assert x[:, 0].tolist() == axes.get_xticks().tolist() == expected


def test_the_parameter_with_most_values_is_horizontal():
    grid = {"activation": ["gelu", "tanh", "relu"], "beta": [1.0], "n_components": [2, 3]}
    axes = of_search(searched(grid, np.arange(6.0)))
    assert axes.get_xlabel() == "activation"
    assert list(curves(axes)[0]) == ["n_components=2", "n_components=3"]
    axes = of_search(searched({"activation": ["gelu", "tanh"], "beta": [1.0, 2.0]}, np.arange(4.0)))
    assert axes.get_xlabel() == "beta"


def test_of_many_lines_the_best_and_the_choice_are_coloured(tmp_path):
    grid = {"n_components": list(range(12, 0, -1)), "seed": list(range(11))}
    means = -np.array([seed + size / 100 for size in grid["n_components"] for seed in grid["seed"]])
    axes = of_search(searched(grid, means, chosen=10), tmp_path)
    named, grey = curves(axes)
    assert list(named) == [f"seed={seed}" for seed in (0, 1, 2, 3, 4, 5, 6, 10)]  # this very seed
    assert len(grey) == 3
    assert {color for *_, color in grey} == {PALE}
    assert len({color for *_, color in named.values()}) == 8
    assert PALETTE[2] not in {color for *_, color in named.values()}


def test_several_grids_share_the_estimators_values():
    grids = [{"n_components": [2, 3, 4]}, {"n_components": [2, 3, 4], "activation": ["tanh"]}]
    axes = of_search(searched(grids, np.arange(6.0)))
    lines, _ = curves(axes)
    assert list(lines) == ["activation='gelu'", "activation='tanh'"]
    assert lines["activation='tanh'"][0].tolist() == [[2, 3], [3, 4], [4, 5]]


def test_searches_with_gaps_or_of_one_candidate(tmp_path):
    axes = of_search(searched({"beta": [1.0, 2.0, 3.0]}, [-2, np.nan, -1], chosen=0), tmp_path)
    assert mark(axes, "best").get_xydata().tolist() == [[3, -1]]
    assert mark(axes, "chosen").get_xydata().tolist() == [[1, -2]]
    assert list(curves(axes)[0]) == ["Autoencoder"]
    axes = of_search(searched({}, [-2.0]), tmp_path)
    assert axes.get_xlabel() == "candidate"
    assert mark(axes, "best").get_xydata().tolist() == [[0, -2]]


def test_the_score_of_a_search_is_named():
    named = {"reconstruction": "minus the validation squared error per row"}
    for scoring in ("reconstruction", lambda model, X: np.zeros(len(X))):
        axes = of_search(searched({"beta": [1.0, 2.0]}, [-2, -1], scoring=scoring))
        assert axes.get_ylabel() == (named[scoring] if isinstance(scoring, str) else "validation score")


def test_a_real_search_is_drawn(cancer, tmp_path):
    model = Autoencoder(hidden=(), max_epochs=1, random_state=0)
    search = AutoencoderSearch(model, {"n_components": [1, 2, 3]}, cv=3, random_state=0, refit=False)
    with pytest.raises(NotFittedError):
        SearchDisplay.from_estimator(search)
    search.fit(cancer[:60])
    axes = of_search(search, tmp_path)
    ((x, heights, _),) = curves(axes)[0].values()
    np.testing.assert_array_equal(x, np.stack([[1, 2, 3], search.cv_results_["mean_test_score"]], axis=1))
    np.testing.assert_allclose(heights, search.cv_results_["standard_error"])
    assert mark(axes, "chosen").get_xydata()[0, 0] == search.best_params_["n_components"]


# -- reasons


def test_reasons_are_bars_with_what_was_expected(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    rows = pd.DataFrame({"a": z, "b": z + 0.1 * rng.normal(size=400), "kind": np.where(z > 0, "high", "low")})
    detector = AnomalyDetector(autoencoder=Autoencoder(1, max_epochs=3), random_state=0).fit(rows)
    wrong = pd.DataFrame({"a": [1.0], "b": [-1.5], "kind": ["high"]})
    (axes,) = drawn(ReasonsDisplay.from_estimator(detector, wrong).figure_, tmp_path).axes
    (found,) = detector.explain(wrong, output="records")
    reasons = found["reasons"]
    assert reasons[0]["column"] == "b"
    assert [label.get_text() for label in axes.get_yticklabels()] == [each["column"] for each in reasons]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [each["contribution"] for each in reasons])
    assert axes.texts[0].get_text() == f" -1.5, expected {reasons[0]['expected']:.4g}"
    assert axes.texts[[each["column"] for each in reasons].index("kind")].get_text() == " high"
    own = Figure()
    assert ReasonsDisplay.from_estimator(detector, wrong, n_columns=1, ax=own.subplots()).figure_ is own
    assert len(own.axes[0].patches) == 1
    with pytest.raises(DataError, match="one row"):
        ReasonsDisplay.from_estimator(detector, rows)


def test_long_names_and_labels_of_reasons_keep_both_ends():
    label, names = (
        "a label of very many letters, the first",
        [f"a column of very many letters, number {j}" for j in (1, 2)],
    )
    reasons = [
        {"column": name, "contribution": 1.0, "observed": label, "expected": 0.5, "direction": "other"}
        for name in names
    ]
    (axes,) = ReasonsDisplay(reasons, 2.0).plot().figure_.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        "a column of ve…ters, number 1",
        "a column of ve…ters, number 2",
    ]
    assert axes.texts[0].get_text() == " a label of …, the first, expected 0.5"


def test_alarms_are_drawn_by_the_rate_asked_for(tmp_path):
    p = np.array([0.01, 0.04, 0.2, 0.6, 1.0])
    display = CalibrationDisplay(p, 0.05).plot()
    _, steps, rate = drawn(display.figure_, tmp_path).axes[0].get_lines()
    np.testing.assert_allclose(steps.get_xdata(), p)
    np.testing.assert_allclose(steps.get_ydata(), [0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate.get_label() == "this detector: 0.4 at 0.05"


DISPLAYS = [getattr(plots, name) for name in dir(plots) if name.endswith("Display")]


@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: display.__name__)
def test_what_is_no_model_to_draw_is_refused(cancer, display):
    has_rows = display not in (SearchDisplay, TermsDisplay, TrainingDisplay)
    rows = (cancer[:1],) if has_rows else ()
    grid = GridSearchCV(Autoencoder(1, max_epochs=1), {"n_components": [1]}, cv=2).fit(cancer[:40])
    search = AutoencoderSearch(Autoencoder(), {"n_components": [1]})
    wrong = [(PCA(), "PCA"), (None, "NoneType"), (grid, r"GridSearchCV\. Give its best_estimator_")]
    if display is not SearchDisplay:
        wrong.append((search, "AutoencoderSearch"))
    for given, message in wrong:
        with pytest.raises(OptionError, match=f"of this package, fitted. Got {message}"):
            display.from_estimator(given, *rows)
    own = {SearchDisplay: search, ReasonsDisplay: AnomalyDetector(), plots.CalibrationDisplay: AnomalyDetector()}
    with pytest.raises(NotFittedError):
        display.from_estimator(own.get(display, Autoencoder()), *rows)
