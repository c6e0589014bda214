"""The demonstration: its table is true, its files are whole, and the commands it prints run as printed."""

import contextlib
import functools
import io
import re
import shlex

import numpy as np
import pyarrow.parquet
import pytest
from matplotlib.image import imread
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import eigencode
from eigencode import Autoencoder, cli, demo
from eigencode.data.files import read_table
from eigencode.errors import FileError

PICTURES = ["codes.png", "reconstructions.png", "training.png"]


def table_of(printed):
    """The printed lines of numbers: code size, error of PCA, error of the autoencoder, gain in per cent."""
    return np.array([re.findall(r"[\d.]+", line) for line in printed.splitlines() if "%" in line], dtype=float)


@pytest.fixture(scope="module")
def after_the_demo(tmp_path_factory):
    """Its folder and what it printed; after few epochs, enough to be better than PCA."""
    current, printed = tmp_path_factory.mktemp("current"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(demo, "Autoencoder", functools.partial(Autoencoder, max_epochs=3))
        patch.chdir(current)
        assert cli.main(["demo", "--output", "my demo"]) == 0
    return current / "my demo", printed.getvalue()


@pytest.mark.versions
def test_the_printed_table_is_correct(after_the_demo):
    folder, printed = after_the_demo
    images, classes = load_digits(return_X_y=True)
    training, held_out = train_test_split(images, test_size=0.2, stratify=classes, random_state=0)
    mean = training.mean(0)
    _, _, directions = np.linalg.svd(training - mean, full_matrices=False)
    table = table_of(printed)
    assert table[:, 0].tolist() == [2, 4, 8]
    for size, linear, nonlinear, gain in table:
        kept = directions[: int(size)]
        error = np.square((held_out - mean) - (held_out - mean) @ kept.T @ kept).sum(1).mean()
        assert linear == pytest.approx(error, abs=0.05)
        assert nonlinear < linear
        assert gain == pytest.approx(100 * (1 - nonlinear / linear), abs=0.6)
    model = eigencode.load(folder / "model.safetensors")
    assert model.seed_ == 0
    frame = read_table(folder / "digits.parquet").frame
    error = model.reconstruction_error(frame)
    # A frame is given back in whole numbers within the range of each column, which errs less.
    rebuilt = np.asarray(model.reconstruct(frame))
    assert (np.abs(rebuilt - images) <= 16).all()
    assert np.square(rebuilt - images).sum(1).mean() < error.mean()
    _, held_out = train_test_split(np.arange(len(images)), test_size=0.2, stratify=classes, random_state=0)
    assert error[held_out].mean() == pytest.approx(table[-1, 2], abs=0.05)


def test_the_files_that_it_writes(after_the_demo):
    folder, _ = after_the_demo
    left = {path.name for path in folder.iterdir()} - {"codes.csv", "own.safetensors"}
    assert left == {"codes.parquet", "digits.parquet", "model.safetensors", *PICTURES}
    images, classes = load_digits(return_X_y=True)
    rows = read_table(folder / "digits.parquet")
    assert rows.names[:2] == ["pixel_0_0", "pixel_0_1"]
    np.testing.assert_array_equal(rows.rows, images)
    codes = pyarrow.parquet.read_table(folder / "codes.parquet")
    assert codes["label"].to_pylist() == classes.tolist()
    model = eigencode.load(folder / "model.safetensors")
    found = np.column_stack([codes[name] for name in model.get_feature_names_out()])
    np.testing.assert_array_equal(found, model.transform(rows.frame))
    for name in PICTURES:
        assert imread(folder / name).std() > 0.05


def test_the_printed_commands_run_as_printed(after_the_demo, monkeypatch, capsys):
    folder, printed = after_the_demo
    monkeypatch.chdir(folder.parent)
    commands = [line.strip() for line in printed.splitlines() if line.startswith("  ") and "safetensors" in line]
    assert len(commands) == 3
    for line, name in zip(commands, ["describe", "transform", "fit"], strict=True):
        arguments = shlex.split(line)
        assert cli.main(arguments[arguments.index(name) :]) == 0, capsys.readouterr().err
    np.testing.assert_array_equal(
        read_table(folder / "codes.csv").rows, read_table(folder / "codes.parquet", exclude=["label"]).rows
    )
    own = eigencode.load(folder / "own.safetensors")
    assert (own.n_components_, own.hidden_) == (4, (64, 32))


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="The folder .* cannot be used.*Not a directory"):
        demo.run_demo(tmp_path / "file" / "demo")


@pytest.mark.slow
def test_the_gain_over_pca(tmp_path, capsys):
    demo.run_demo(tmp_path)
    gains = table_of(capsys.readouterr().out)[:, 3]
    assert (gains > [25, 40, 42]).all()
