"""Pictures: what is drawn is what was given, and nothing of matplotlib's global state is touched."""

import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from sklearn.decomposition import PCA

from eigencode import Autoencoder
from eigencode.errors import DataError
from eigencode.plots import MARKERS, PALETTE, plot_codes, plot_history, plot_reconstructions, plot_sizes


def drawn(figure, tmp_path):
    """The figure, once it has really been drawn."""
    figure.savefig(tmp_path / "figure.png")
    return figure


def lines_by_label(figure):
    return {line.get_label().partition(":")[0]: line for line in figure.axes[0].get_lines()}


# -- reconstructions


def test_each_image_stands_over_its_reconstructions(digits, tmp_path):
    originals, model, baseline = digits[:12], digits[:12] + 1.0, digits[:12] - 2.0
    figure = drawn(plot_reconstructions(originals, model, (8, 8), baseline=baseline, n_images=5), tmp_path)
    assert len(figure.axes) == 15
    for place, stack in enumerate([originals, model, baseline]):
        for column in range(5):
            (image,) = figure.axes[5 * place + column].get_images()
            np.testing.assert_array_equal(image.get_array(), stack[column].reshape(8, 8))
            assert (image.norm.vmin, image.norm.vmax) == (originals[:5].min(), originals[:5].max())
    heights = [figure.axes[place].get_position().y0 for place in (0, 5, 10)]
    assert heights == sorted(heights, reverse=True)


def test_rows_of_pictures_say_their_error(digits):
    figure = plot_reconstructions(digits[:4], digits[:4] + 0.5, (8, 8), baseline=digits[:4] * 0, n_images=3)
    said = [figure.axes[place].get_ylabel() for place in (0, 3, 6)]
    nothing = np.square(digits[:3]).sum(1).mean()
    assert said == ["original", "autoencoder\nerror 16", f"baseline\nerror {nothing:.4g}"]


def test_images_need_not_be_square(tmp_path):
    rows = np.arange(12.0).reshape(2, 6)
    (image,) = drawn(plot_reconstructions(rows, rows, (2, 3)), tmp_path).axes[1].get_images()
    assert image.get_array().tolist() == [[6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize(("other", "shape"), [((3, 64), (8, 8)), ((4, 64), (8, 7)), ((4, 32), (8, 8))])
def test_images_that_do_not_fit(other, shape):
    with pytest.raises(DataError, match=r"Rows of images of shape .* must form arrays of"):
        plot_reconstructions(np.zeros((4, 64)), np.zeros(other), shape)


# -- codes


def test_each_class_has_its_places_its_colour_and_its_name(tmp_path):
    codes = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.repeat(["ant", "bee", "cat"], 20)
    figure = drawn(plot_codes(codes, labels), tmp_path)
    (axes,) = figure.axes
    for number, name in enumerate(["ant", "bee", "cat"]):
        cloud, own = axes.collections[number], codes[labels == name]
        np.testing.assert_array_equal(cloud.get_offsets(), own)
        np.testing.assert_allclose(cloud.get_facecolor()[0, :3], to_rgb(PALETTE[number]))
        assert axes.texts[number].get_text() == name
        np.testing.assert_allclose(axes.texts[number].get_position(), np.median(own, axis=0))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ant", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("code 1", "code 2")


def test_longer_codes_are_seen_along_their_principal_axes():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 5)) + 3
    (axes,) = plot_codes(codes).axes
    pca = PCA(2).fit(codes)
    found, expected = np.asarray(axes.collections[0].get_offsets()), pca.transform(codes)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    first, second = pca.explained_variance_ratio_
    assert axes.get_xlabel() == f"first principal axis of the 5 codes ({first:.0%})"
    assert axes.get_ylabel() == f"second principal axis of the 5 codes ({second:.0%})"


def test_more_classes_than_colours_are_told_apart_by_markers():
    codes = np.random.default_rng(0).normal(size=(24, 2))
    (axes,) = plot_codes(codes, np.arange(24) // 2).axes
    looks = {(tuple(cloud.get_facecolor()[0]), len(cloud.get_paths()[0].vertices)) for cloud in axes.collections}
    assert len(axes.collections) == 12
    assert len(looks) == 12
    assert len(set(MARKERS)) == len(MARKERS)


def test_one_unit_is_as_long_across_as_it_is_up(tmp_path):
    codes = np.random.default_rng(0).normal(size=(50, 2)) * [100, 1]
    (axes,) = drawn(plot_codes(codes), tmp_path).axes
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_codes_that_make_no_map():
    with pytest.raises(DataError, match=r"at least two components\. Got the shape \(5, 1\)"):
        plot_codes(np.zeros((5, 1)))
    with pytest.raises(DataError, match=r"one label for each code\. Got \(4,\) for 5 codes"):
        plot_codes(np.zeros((5, 2)), np.zeros(4))


# -- history


def test_the_curves_are_the_history(fitted, tmp_path):
    lines = lines_by_label(drawn(plot_history(fitted), tmp_path))
    epochs = [row["epoch"] for row in fitted.history_]
    held_out = [row["held_out_objective"] for row in fitted.history_]
    np.testing.assert_array_equal(lines["held-out rows, after the epoch"].get_xydata().T, [epochs, held_out])
    training = [row["training_objective"] for row in fitted.history_[1:]]
    np.testing.assert_array_equal(lines["training rows, during the epoch"].get_xydata().T, [epochs[1:], training])
    assert set(lines["linear baseline"].get_ydata()) == {fitted.baseline_.history_[0]["held_out_objective"]}
    best = fitted.best_epoch_
    assert lines["kept"].get_xydata().tolist() == [[best, held_out[best]]]
    assert best > 0


def test_a_wild_beginning_does_not_flatten_the_curve(cancer):
    model = Autoencoder(n_components=4, hidden=(16,), start="plain", max_epochs=30, random_state=0).fit(cancer)
    held_out = [row["held_out_objective"] for row in model.history_]
    low, high = plot_history(model).axes[0].get_ylim()
    assert held_out[0] > high
    assert low < min(held_out)
    assert low < model.baseline_.history_[0]["held_out_objective"] < high


@pytest.mark.parametrize("fraction", [0, 0.2])
def test_an_untrained_model_is_a_point_on_its_baseline(cancer, fraction, tmp_path):
    model = Autoencoder(n_components=2, max_epochs=0, validation_fraction=fraction, random_state=0).fit(cancer)
    lines = lines_by_label(drawn(plot_history(model), tmp_path))
    assert set(lines) == {"linear baseline", "kept"}
    assert lines["kept"].get_ydata() == pytest.approx(lines["linear baseline"].get_ydata()[0])


def test_the_judge_is_named(cancer):
    model = Autoencoder(n_components=2, max_epochs=1, validation_fraction=0, random_state=0).fit(cancer)
    assert "training rows, after the epoch" in lines_by_label(plot_history(model))


# -- neighbours


def test_settings_of_matplotlib_stay_as_they_are(digits, fitted, tmp_path):
    before = dict(matplotlib.rcParams)
    for figure in (
        plot_reconstructions(digits[:3], digits[:3], (8, 8)),
        plot_codes(digits[:50, 10:13]),
        plot_history(fitted),
    ):
        drawn(figure, tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_imported():
    program = "import sys, eigencode.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "False"


def test_sizes_are_drawn_as_they_are(digits):
    model = Autoencoder(5, ordered=True, max_epochs=3, random_state=0).fit(digits[:1500])
    (axes,) = plot_sizes(model, digits[1500:]).axes
    baseline, own = axes.get_lines()
    np.testing.assert_allclose(own.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_allclose(own.get_ydata(), model.reconstruction_error_by_size(digits[1500:]))
    np.testing.assert_allclose(baseline.get_ydata(), model.baseline_.reconstruction_error_by_size(digits[1500:]))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["linear baseline", "Autoencoder"]


def test_a_streams_history_is_drawn_without_a_judge(digits):
    model = Autoencoder(2, hidden=(8,), random_state=0)
    for block in np.array_split(digits, 4):
        model.partial_fit(block)
    (axes,) = plot_history(model).axes
    during, kept = axes.get_lines()
    np.testing.assert_allclose(during.get_ydata(), [row["training_objective"] for row in model.history_])
    assert kept.get_xdata() == [4]
