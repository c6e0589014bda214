"""Images: read from files, taken as arrays, and written as pictures."""

import io
import os
import struct
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from eigencode.data.image_files import read_images
from eigencode.data.image_paths import is_image, list_image_files
from eigencode.data.images import ImageLayout, rows_to_images
from eigencode.data.pictures import as_pixels, check_pictures_output, grid, pixel_range, write_pictures
from eigencode.data.sources import ArraySource
from eigencode.errors import DataError, EigencodeError, FileError

pytestmark = pytest.mark.versions


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


# -- which files


def test_a_folder_is_read_in_natural_order_with_a_note_on_other_files(tmp_path):
    for number in (10, 2, 1):
        save(tmp_path / f"img{number}.PNG", np.full((2, 3), number, np.uint8))
    (tmp_path / "labels.csv").write_text("a\n1\n")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "._img1.PNG").write_bytes(b"x")
    (tmp_path / "more").mkdir()
    found = read_images([tmp_path])
    assert found.rows[:, 0].tolist() == [1, 2, 10]
    assert found.image_shape == (1, 2, 3)
    assert [file.name for file in found.files] == ["img1.PNG", "img2.PNG", "img10.PNG"]
    assert found.notes == [f"Skipped in {str(tmp_path)!r}: 'labels.csv', 'more' (not images)."]


def test_folder_glob_and_list_are_the_same_rows_and_a_given_order_is_kept(tmp_path):
    for number in (1, 2, 10):
        save(tmp_path / f"{number}.png", np.full((2, 2), number, np.uint8))
    listed = sorted(map(str, tmp_path.iterdir()))
    assert [os.path.basename(name) for name in listed] == ["1.png", "10.png", "2.png"]
    for paths in ([tmp_path], [f"{tmp_path}/*.png"], listed):
        assert read_images(paths).rows[:, 0].tolist() == [1, 2, 10]
    assert read_images([listed[2], listed[0]]).rows[:, 0].tolist() == [2, 1]


def test_a_glob_searches_folders_and_a_name_may_have_brackets(tmp_path):
    (tmp_path / "a").mkdir()
    save(tmp_path / "a" / "x[1].png", noise(2, 2))
    files, notes = list_image_files([f"{tmp_path}/**/*.png"])
    assert [file.name for file in files] == ["x[1].png"]
    assert not notes
    assert read_images([tmp_path / "a" / "x[1].png"]).rows.shape == (1, 4)
    assert is_image(tmp_path)  # reading it raises an error with a hint
    with pytest.raises(FileError, match=r"no image in .*Got 1 folder.*Search the folders with '.*\*\*"):
        read_images([tmp_path])


def test_which_paths_are_images(tmp_path):
    assert is_image("a.JPeG")
    assert not is_image("a.csv")
    assert not is_image(tmp_path)
    save(tmp_path / "plot.png", noise(2, 2))
    assert is_image(tmp_path)
    assert is_image(f"{tmp_path}/*")
    (tmp_path / "1.csv").write_text("a\n")
    assert not is_image(tmp_path)


@pytest.mark.parametrize("name", ["nothing.png", "no folder/*.png", "rows.csv"])
def test_a_path_that_names_no_image_is_refused(tmp_path, name):
    with pytest.raises(FileError):
        read_images([tmp_path / name])


# -- pixels


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "tiff", "webp", "ppm", "gif"])
def test_lossless_formats_give_the_pixels_back(tmp_path, ending):
    grey = noise(5, 7)
    options = {"lossless": True} if ending == "webp" else {}
    save(tmp_path / f"grey.{ending}", grey, **options)
    colour = noise(5, 7, 3, seed=1)
    found = read_images([tmp_path]).rows.reshape(-1, 5, 7)
    assert (found == grey).all()  # WebP and PPM may have made it a colour image
    if ending != "gif":
        save(tmp_path / f"colour.{ending}", colour, **options)
        found = read_images([tmp_path / f"colour.{ending}"])
        assert found.image_shape == (3, 5, 7)
        assert (found.rows.reshape(3, 5, 7) == np.moveaxis(colour, -1, 0)).all()


def test_a_jpeg_is_nearly_equal(tmp_path):
    smooth = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    save(tmp_path / "a.jpg", smooth, quality=95)
    assert np.abs(read_images([tmp_path]).rows.reshape(16, 16).astype(int) - smooth).max() <= 4


def test_every_mode_becomes_pixels_of_8_bits_or_grey_pixels_of_16(tmp_path):
    colour = Image.fromarray(noise(4, 4, 3))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    cases = {
        "1": (Image.fromarray(np.eye(4, dtype=bool)), (1, 4, 4), np.eye(4).ravel() * 255),
        "L": (Image.new("L", (4, 4), 7), (1, 4, 4), np.full(16, 7)),
        "P": (colour.quantize(16), (3, 4, 4), np.moveaxis(np.asarray(colour.quantize(16).convert("RGB")), -1, 0)),
        "opaque": (colour.convert("RGBA"), (3, 4, 4), np.moveaxis(np.asarray(colour), -1, 0)),
        "transparent": (half, (3, 4, 4), np.full(48, 255)),
        "LA": (Image.new("LA", (4, 4), (9, 255)), (1, 4, 4), np.full(16, 9)),
        "I;16": (Image.fromarray(noise(4, 4, dtype=np.uint16)), (1, 4, 4), noise(4, 4, dtype=np.uint16)),
    }
    for name, (image, shape, pixels) in cases.items():
        image.save(tmp_path / "a.png")
        found = read_images([tmp_path])
        assert found.image_shape == shape, name
        assert (found.rows.ravel() == np.asarray(pixels).ravel()).all(), name
        assert found.rows.dtype == (np.uint16 if name == "I;16" else np.uint8)
        assert bool(found.notes) == (name in ("opaque", "transparent", "LA")), found.notes
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    assert read_images([tmp_path / "a.tif"]).rows[0, [0, 16, 32]].tolist() == [255, 0, 0]
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"f\.tif.*mode 'F'"):
        read_images([tmp_path / "f.tif"])


def test_big_endian_and_pgm_pixels_of_16_bits(tmp_path):
    deep = noise(3, 2, dtype=np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 2 3 65535\n" + deep.astype(">u2").tobytes())
    found = read_images([tmp_path])
    assert found.rows.dtype == np.uint16
    assert (found.rows.reshape(3, 2) == deep).all()


def test_an_image_is_rotated_as_its_exif_data_say(tmp_path):
    image, exif = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3)), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(tmp_path / "a.png", exif=exif)
    found = read_images([tmp_path])
    assert found.image_shape == (1, 3, 2)
    assert found.rows.reshape(3, 2).tolist() == np.rot90(np.arange(6).reshape(2, 3), -1).tolist()


def test_only_the_first_frame_is_read_with_a_note(tmp_path):
    frames = [Image.new("L", (2, 2), color) for color in (0, 255)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = read_images([tmp_path])
    assert found.rows.tolist() == [[0] * found.rows.shape[1]]
    assert found.notes == ["1 image has more than one frame or page; only the first is read."]


def test_grey_images_become_colour_if_others_or_the_model_are(tmp_path):
    save(tmp_path / "a.png", np.full((2, 2), 5, np.uint8))
    assert read_images([tmp_path], like=(3, 2, 2)).rows.tolist() == [[5] * 12]
    save(tmp_path / "b.png", noise(2, 2, 3))
    assert read_images([tmp_path]).rows[0].tolist() == [5] * 12
    with pytest.raises(DataError, match=r"must be grey.*colours in .*b\.png"):
        read_images([tmp_path], like=(1, 2, 2))


def test_different_sizes_and_depths_are_refused_and_images_can_be_resized(tmp_path):
    save(tmp_path / "a.png", np.full((4, 6), 100, np.uint8))
    save(tmp_path / "b.png", np.full((4, 5), 100, np.uint8))
    with pytest.raises(DataError, match=r"6x4 in .*a\.png' and 5x4 in .*b\.png'.*--image-size 6x4"):
        read_images([tmp_path])
    found = read_images([tmp_path], size=(3, 2))
    assert found.image_shape == (1, 2, 3)
    assert (found.rows == 100).all()
    save(tmp_path / "b.png", np.full((4, 6), 40000, np.uint16))
    with pytest.raises(DataError, match=r"16 bits in .*b\.png' and 8 bits in .*a\.png'"):
        read_images([tmp_path])
    assert read_images([tmp_path / "b.png"], size=(2, 2)).rows.tolist() == [[40000] * 4]


# -- damage


def broken(kind):
    file = io.BytesIO()
    Image.fromarray(noise(64, 64, 3)).save(file, "JPEG" if kind == "jpeg" else "PNG")
    whole = file.getvalue()
    if kind in ("bomb", "hollow"):
        form = io.BytesIO()
        Image.fromarray(noise(64, 64, 3)).save(form, "BMP")
        side = 60000 if kind == "bomb" else 8000
        return form.getvalue()[:18] + struct.pack("<II", side, side) + form.getvalue()[26:]
    return {"empty": b"", "text": b"no image", "truncated": whole[:3000], "jpeg": whole[:700]}.get(
        kind, whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    )


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "jpeg", "flipped", "bomb", "hollow"])
def test_a_damaged_image_is_refused_by_name(tmp_path, kind):
    save(tmp_path / "a.png", noise(64, 64, 3))
    (tmp_path / "b.png").write_bytes(broken(kind))
    with pytest.raises(FileError, match=r"b\.png.*remove 'b\.png'"):
        read_images([tmp_path])


def test_a_missing_file_is_a_file_not_found_error_with_a_similar_name(tmp_path):
    save(tmp_path / "image1.png", noise(2, 2))
    with pytest.raises(FileNotFoundError, match=r"no file .*imagee1\.png'. Did you mean 'image1\.png'\?"):
        read_images([tmp_path / "imagee1.png"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileError, match="no ordinary file"):
        read_images([tmp_path])


def test_mutated_images_raise_only_errors_of_this_package(tmp_path):
    rng = np.random.default_rng(0)
    wholes = []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(noise(9, 9)).save(file, form)
        wholes.append(np.frombuffer(file.getvalue(), np.uint8))
    for number in range(300):
        mutated = wholes[number % len(wholes)].copy()
        positions = rng.integers(0, len(mutated), rng.integers(1, 5))
        mutated[positions] = rng.integers(0, 256, len(positions))
        (tmp_path / "a.png").write_bytes(mutated[: rng.integers(1, len(mutated) + 1)].tobytes())
        with suppress(EigencodeError):
            assert read_images([tmp_path / "a.png"]).rows.dtype in (np.uint8, np.uint16)


def test_memory_is_checked_before_pixels_are_read(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((1000, 1100), np.uint8))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(DataError, match=r"Reading the images needs about .*--image-size"):
        read_images([tmp_path])


# -- arrays


@pytest.mark.parametrize(
    ("shape", "known", "image_shape", "axes"),
    [
        ((5, 4, 3), None, (1, 4, 3), "hw"),
        ((5, 8, 9, 3), None, (3, 8, 9), "hwc"),
        ((5, 3, 8, 9), None, (3, 8, 9), "chw"),
        ((5, 3, 8, 3), None, (3, 3, 8), "hwc"),
        ((5, 3, 8, 3), (3, 8, 3), (3, 8, 3), "chw"),
        ((5, 8, 9, 1), (1, 8, 9), (1, 8, 9), "hwc"),
    ],
)
def test_the_layout_of_an_array(shape, known, image_shape, axes):
    layout = ImageLayout.of(shape, known)
    assert (layout.image_shape, layout.axes) == (image_shape, axes)
    array = noise(*shape)
    rows = layout.rows(array)
    assert (layout.images(rows) == array).all()
    n, (c, h, w) = len(array), image_shape
    one = rows.reshape(n, c, h, w)[2, c - 1, h - 1, 0]
    assert (
        one
        == {"hw": lambda: array[2, -1, 0], "hwc": lambda: array[2, -1, 0, -1], "chw": lambda: array[2, -1, -1, 0]}[
            axes
        ]()
    )


@pytest.mark.parametrize(("shape", "known"), [((5, 8, 9, 2), None), ((5, 8, 9), (1, 9, 8)), ((2, 2, 2, 2, 2), None)])
def test_arrays_that_are_not_images_are_refused(shape, known):
    with pytest.raises(DataError, match="Images must form an array"):
        ImageLayout.of(shape, known)


# -- pictures


def test_a_grid_is_nearly_square_with_the_first_image_at_the_top_left():
    images = noise(10, 20, 20)
    found = grid(images)
    assert found.shape == (4 * 22 - 2, 3 * 22 - 2)
    assert (found[:20, 22:42] == images[1]).all()
    assert (found[22:42, :20] == images[3]).all()
    assert (found[20:22] == 255).all()
    assert grid(noise(1, 5, 6, 3)).shape == (5, 6, 3)


def test_pixels_are_rounded_and_clipped():
    assert as_pixels(np.array([-4, 0.4, 0.6, 254.6, 300]), (0.0, 255.0)).tolist() == [0, 0, 1, 255, 255]
    assert as_pixels(np.array([-1.0, 0, 1]), (-1.0, 1.0)).tolist() == [0, 128, 255]
    assert as_pixels(np.array([65534.6, np.nan]), (0.0, 65535.0)).tolist() == [65535, 0]
    assert pixel_range(ArraySource(noise(3, 4))) == (0.0, 255.0)
    assert pixel_range(ArraySource(np.zeros((2, 2)))) == (0.0, 1.0)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3), (4, 5, 6, 4), (4, 5, 6, 1)])
def test_every_format_is_written_as_a_grid_or_as_files(tmp_path, ending, shape):
    images = noise(*shape)
    write_pictures(tmp_path / f"all{ending}", images)
    with Image.open(tmp_path / f"all{ending}") as image:
        assert image.size == (2 * 6 + 1, 2 * 5 + 1)
    (tmp_path / "each").mkdir()
    files = write_pictures(tmp_path / "each" / f"*{ending}", images)
    assert [file.name for file in files] == [f"{number:04}{ending}" for number in range(1, 5)]
    if ending in (".png", ".tif") and shape[3:] != (4,):
        assert (read_images([tmp_path / "each"]).rows == ImageLayout.of(shape).rows(images)).all()


def test_pixels_of_16_bits_are_kept_by_formats_that_have_them(tmp_path):
    images = noise(3, 4, 4, dtype=np.uint16)
    for ending in ("png", "tif"):
        write_pictures(tmp_path / f"*.{ending}", images)
        assert (read_images([f"{tmp_path}/*.{ending}"]).rows.reshape(3, 4, 4) == images).all()
    write_pictures(tmp_path / "*.bmp", images)
    assert (read_images([f"{tmp_path}/*.bmp"]).rows.reshape(3, 4, 4) == images >> 8).all()


def test_a_folder_is_written_completely_and_keeps_other_files(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    write_pictures(folder / "*.png", noise(2, 3, 3))
    (folder / "keep.txt").write_text("kept")
    before = sorted((file.name, file.read_bytes()) for file in folder.iterdir())
    done = []

    def fails_at_the_second(path, pixels, form):
        done.append(path)
        if len(done) == 2:
            raise FileError("full")
        return b"new"

    monkeypatch.setattr("eigencode.data.pictures.encoded", fails_at_the_second)
    with pytest.raises(FileError, match="full"):
        write_pictures(folder, noise(2, 3, 3))
    assert sorted((file.name, file.read_bytes()) for file in folder.iterdir()) == before
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_writing_are_checked_before_the_work(tmp_path):
    save(tmp_path / "a.png", noise(2, 2))
    for output, message in [
        (tmp_path, "it is an input"),
        (tmp_path / "*.png", "it is an input"),
        (tmp_path / "a.png", "it is an input"),
        (tmp_path / "no" / "deeper" / "*.png", "no folder"),
        (tmp_path / "no" / "a.png", "no folder"),
        (tmp_path / "new" / "*.xyz", "does not name a format"),
    ]:
        with pytest.raises(FileError, match=message):
            check_pictures_output(output, [tmp_path / "a.png"])
    check_pictures_output(tmp_path / "new" / "*.png", [tmp_path / "a.png"])
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]


def test_too_large_grids_and_odd_channels_are_refused(tmp_path):
    with pytest.raises(DataError, match="1, 3 or 4 channels"):
        write_pictures(tmp_path / "a.png", noise(1, 2, 2, 2))
    with pytest.raises(DataError, match="--output folder/"):
        write_pictures(tmp_path / "a.png", np.broadcast_to(np.uint8(0), (30000, 100, 100)))
    assert not list(tmp_path.iterdir())


def test_rows_are_shown_with_the_channels_last():
    rows = noise(2, 3 * 4 * 5)
    assert rows_to_images((3, 4, 5), rows).shape == (2, 4, 5, 3)
    assert rows_to_images((1, 4, 15), rows).shape == (2, 4, 15)
    assert (rows_to_images((3, 4, 5), rows)[1, 2, 3] == rows[1].reshape(3, 4, 5)[:, 2, 3]).all()
