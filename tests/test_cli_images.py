"""The commands on images: read from files and arrays, written as pictures."""

import json

import numpy as np
import pytest
from PIL import Image

import eigencode
from eigencode.cli import main

pytestmark = pytest.mark.versions

QUICK = ["--n-components", "3", "--hidden", "8", "--max-epochs", "2", "--random-state", "0"]


@pytest.fixture(scope="module")
def folder(digits, tmp_path_factory):
    """A folder with the images 0.png ... 119.png and 0.npy's worth of them beside it; and a model of them."""
    folder = tmp_path_factory.mktemp("images")
    images = (digits[:120].reshape(-1, 8, 8) * 15).astype(np.uint8)
    (folder / "png").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / "png" / f"{number}.png")
    np.save(folder / "images.npy", images)
    np.save(folder / "rows.npy", images.reshape(len(images), -1))
    assert run("fit", folder / "png", "--output", folder / "m.safetensors", *QUICK) == 0
    return folder


def run(*args):
    return main([str(arg) for arg in args])


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("form", ["folder", "glob", "list", "array"])
def test_the_same_images_give_the_same_model(folder, tmp_path, form):
    rows = {
        "folder": [f"{folder}/png/"],
        "glob": [f"{folder}/png/*.png"],
        "list": sorted(map(str, (folder / "png").iterdir())),  # as a shell has them: 0, 1, 10, 100, 101, ...
        "array": [folder / "images.npy"],
    }[form]
    assert run("fit", *rows, "--output", tmp_path / "m.safetensors", *QUICK) == 0
    assert (tmp_path / "m.safetensors").read_bytes() == (folder / "m.safetensors").read_bytes()
    assert run("transform", tmp_path / "m.safetensors", *rows, "--output", tmp_path / "codes.npy") == 0
    model, images = eigencode.load(tmp_path / "m.safetensors"), np.load(folder / "images.npy")
    assert (np.load(tmp_path / "codes.npy") == model.transform(images)).all()


def test_pictures_are_the_rows_rounded(folder, tmp_path, capsys):
    model, images = folder / "m.safetensors", np.load(folder / "images.npy")
    expected = eigencode.load(model).reconstruct(images).round().clip(0, 255)
    assert run("reconstruct", model, folder / "png", "--output", f"{tmp_path}/out/") == 0
    assert "120 images of 8x8 pixels are in" in capsys.readouterr().out
    found = [pixels(tmp_path / "out" / f"{number:04}.png") for number in range(1, 121)]
    assert (np.array(found) == expected).all()
    assert run("transform", model, folder / "png", "--output", tmp_path / "codes.csv") == 0
    assert run("decode", model, tmp_path / "codes.csv", "--output", tmp_path / "grid.PNG") == 0
    grid = pixels(tmp_path / "grid.PNG")
    assert grid.shape == (11 * 9 - 1, 11 * 9 - 1)
    assert (grid[:8, 9:17] == expected[1]).all()


def test_samples_as_pictures_have_no_noise_by_default(folder, tmp_path, capsys):
    def sampled(name, *args):
        output = tmp_path / name
        assert (
            run("sample", folder / "m.safetensors", "--n-rows", 9, "--random-state", 0, "--output", output, *args) == 0
        )
        return pixels(output) if output.suffix == ".png" else np.load(output)

    drawn = sampled("s.png")
    assert drawn.shape == (26, 26)
    assert "(0 is black, 255 is white)" in capsys.readouterr().out
    means = sampled("m.npy", "--mean").reshape(9, 8, 8)
    assert (drawn[:8, :8] == means[0].round().clip(0, 255)).all()
    assert (drawn != sampled("n.png", "--no-mean")).mean() > 0.3
    assert (sampled("n.npy") != sampled("m2.npy", "--mean")).mean() > 0.8  # constant pixels have no noise


def test_numbers_of_another_range_are_scaled_for_pictures(digits, tmp_path, capsys):
    np.save(tmp_path / "rows.npy", digits[:100])  # from 0 to 16
    shape = ["--image-shape", "1", "8", "8"]
    assert run("fit", tmp_path / "rows.npy", "--output", tmp_path / "m.safetensors", *QUICK, *shape) == 0
    assert run("reconstruct", tmp_path / "m.safetensors", tmp_path / "rows.npy", "--output", tmp_path / "r.png") == 0
    assert "(0 is black, 16 is white)" in capsys.readouterr().out
    expected = eigencode.load(tmp_path / "m.safetensors").reconstruct(digits[:1])
    assert (pixels(tmp_path / "r.png")[:8, :8].ravel() == (expected[0] / 16 * 255).clip(0, 255).round()).all()


def test_colours_are_read_and_written(digits, tmp_path):
    (tmp_path / "rgb").mkdir()
    for number, row in enumerate((digits[:40].reshape(-1, 8, 8) * 15).astype(np.uint8)):
        Image.fromarray(np.stack([row, 255 - row, row // 2], -1)).save(tmp_path / "rgb" / f"{number}.bmp")
    model = tmp_path / "m.safetensors"
    assert run("fit", tmp_path / "rgb", "--output", model, *QUICK, "--image-shape", "auto") == 0
    assert eigencode.load(model).image_shape_ == (3, 8, 8)
    assert run("reconstruct", model, tmp_path / "rgb", "--output", f"{tmp_path}/out/*.bmp") == 0
    original, rebuilt = pixels(tmp_path / "rgb" / "0.bmp"), pixels(tmp_path / "out" / "0001.bmp")
    distance, swapped = (np.abs(original.astype(int) - rebuilt[..., order]).mean() for order in ([0, 1, 2], [1, 0, 2]))
    assert distance < swapped / 2  # red and green have kept their order


def test_images_of_another_size_are_refused_or_resized(folder, tmp_path, capsys):
    Image.new("L", (16, 12)).save(tmp_path / "a.png")
    model = folder / "m.safetensors"
    assert run("score", model, tmp_path / "a.png") == 1
    assert "as in fit. Got 16x12 in" in (printed := capsys.readouterr().err)
    assert "--image-size 8x8" in printed
    assert run("score", model, tmp_path / "a.png", "--image-size", "8x8", "--json") == 0
    assert json.loads(capsys.readouterr().out)["n_rows"] == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["sample", "rows", "--n-rows", 4, "--output", "s.png"], "need a model of images"),
        (["reconstruct", "rows", "rows.npy", "--output", "out/"], "need a model of images"),
        (["transform", "m", "png", "--output", "c.png"], "does not name a format"),
        (["score", "m", "png", "--output", "c.png"], "does not name a format"),
        (["reconstruct", "m", "png", "--output", "png/"], "it is an input"),
        (["reconstruct", "m", "png/1.png", "--output", "png/1.png"], "it is an input"),
        (["sample", "m", "--n-rows", 4, "--output", "none/s.png"], "there is no folder"),
        (["sample", "m", "--n-rows", 4, "--output", "s"], "does not name a format"),
        (["fit", "png", "--include", "a", "--output", "n.safetensors"], "Flags for tables cannot be used for images"),
        (["fit", "rows.npy", "--image-size", "8x8", "--output", "n.safetensors"], "--image-size is for image files"),
        (["fit", "png", "--image-size", "8", "--output", "n.safetensors"], "Try --image-size 28x28"),
        (["fit", "png/1.png", "--output", "n.safetensors"], "at least two rows"),
        (["fit", "png/1.png", "rows.npy", "--output", "n.safetensors"], "does not have the ending of an image file"),
        (["fit", "nothing/", "--output", "n.safetensors"], "There is no file or folder 'nothing'"),
        (["fit", "png/no.png", "--output", "n.safetensors"], "There is no file"),
        (["fit", "rows.npy", "--image-shape", "auto", "--output", "n.safetensors"], "--image-shape auto is for"),
    ],
)
def test_impossible_requests_are_refused_in_one_line(folder, monkeypatch, capsys, args, message):
    monkeypatch.chdir(folder)
    if not (folder / "rows.safetensors").exists():
        assert run("fit", "rows.npy", "--output", "rows.safetensors", *QUICK) == 0
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    args = [f"{arg}.safetensors" if arg in ("m", "rows") and args[0] != "fit" else arg for arg in args]
    assert run(*args) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


def test_describe_shows_the_shape_of_images(folder, capsys):
    assert run("describe", folder / "m.safetensors") == 0
    assert "images                8x8 pixels, 1 channel" in capsys.readouterr().out
    assert run("describe", folder / "m.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["image_shape"] == [1, 8, 8]


@pytest.mark.parametrize("rows", ["png", "images.npy"])
@pytest.mark.parametrize("stays_from", [1, 2**26])
def test_describe_shows_the_pixels_of_images(folder, rows, stays_from, monkeypatch, capsys):
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", stays_from)
    assert run("describe", folder / rows, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["n_rows"], len(facts["columns"])) == (120, 64)
    middle = np.load(folder / "images.npy")[:, 4, 4]
    assert facts["columns"][4 * 8 + 4]["values"].endswith(f"from {middle.min()} to {middle.max()}")


def test_a_sweep_takes_images(folder, tmp_path):
    over = ["--over", "n_components=1,2", "--hidden", "4", "--max-epochs", "1", "--random-state", "0", "--folds", "2"]
    assert run("sweep", folder / "png", "--output", tmp_path / "m.safetensors", *over) == 0
    assert eigencode.load(tmp_path / "m.safetensors").image_shape_ == (1, 8, 8)


def test_the_proposed_command_does_not_name_a_hundred_files(tmp_path, digits, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [f"{number:03}.png" for number in range(40)]
    for name, row in zip(names, digits[:40].reshape(-1, 8, 8) * 15, strict=True):
        Image.fromarray(row.astype(np.uint8)).save(name)
    assert run("fit", *names, "--output", "m.safetensors", *QUICK) == 0
    assert "transform m.safetensors 000.png --output codes.parquet\n" in capsys.readouterr().out
