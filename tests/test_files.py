"""Tables on disk: reading back, choosing and matching columns, and errors with hints."""

import io
import os
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from eigencode import Autoencoder, load
from eigencode.data import delimited
from eigencode.data.files import concatenated, matching_columns, read_table, write_columns
from eigencode.data.formats import TextOptions
from eigencode.data.tables.hints import not_numbers
from eigencode.data.writing import atomic_write, check_output
from eigencode.errors import DataError, FileError, ResultWarning

pytestmark = pytest.mark.versions

ENDINGS = [".csv", ".parquet", ".npy"]
NUMBERS = {"a": np.array([0.1, -2.0, 3e300]), "b": np.array([1, 2, 3])}


def read_matching(source, names, n_columns, **given):
    return concatenated([each.read() for each in matching_columns(source, names, n_columns, **given)])


@pytest.fixture
def text_file(tmp_path):
    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# -- reading what was written


@pytest.mark.parametrize("ending", ENDINGS)
def test_numbers_survive_to_the_last_bit(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    write_columns(path, NUMBERS)
    table = read_table(path)
    assert table.names == (None if ending == ".npy" else ["a", "b"])
    assert table.rows.dtype == np.float64
    np.testing.assert_array_equal(table.rows, np.column_stack(list(NUMBERS.values())))


@pytest.mark.parametrize("ending", ENDINGS)
def test_writing_leaves_no_other_file(tmp_path, ending):
    for _ in range(2):
        write_columns(tmp_path / f"rows{ending}", NUMBERS)
    assert os.listdir(tmp_path) == [f"rows{ending}"]


def test_the_type_is_the_narrowest_for_all_columns(tmp_path):
    path = tmp_path / "rows.parquet"
    columns = {"u": np.array([1, 255], np.uint8), "f": np.array([0.5, 2], np.float32), "t": np.array([True, False])}
    write_columns(path, columns)
    assert read_table(path).rows.dtype == np.float32
    assert read_table(path, include=["u"]).rows.dtype == np.uint8
    np.testing.assert_array_equal(read_table(path, include=["t", "u"]).rows, [[1, 1], [0, 255]])
    pa.parquet.write_table(pa.table({"d": pa.array([1, 3], pa.decimal128(5, 2))}), path)
    np.testing.assert_array_equal(read_table(path).rows, [[1.0], [3.0]])


def test_an_npy_file_is_a_memory_map(tmp_path):
    np.save(tmp_path / "rows.npy", np.eye(3))
    assert not read_table(tmp_path / "rows.npy").rows.flags.owndata


def test_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "other").write_text("")
    write_columns(tmp_path / "rows.csv", NUMBERS)
    assert (tmp_path / "rows.csv").stat().st_mode == (tmp_path / "other").stat().st_mode


# -- CSV


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("a,b\n1,2\n", ["a", "b"], [[1, 2]]),
        ("\n\na,b\n\n1,2.5\n", ["a", "b"], [[1, 2.5]]),
        ("\ufeffa,b\r\n1,2\r\n", ["a", "b"], [[1, 2]]),
        ('"a\nx",b\n1,2\n', ["a\nx", "b"], [[1, 2]]),
        ("a,b\n1,true\n0,false\n", ["a", "b"], [[1, 1], [0, 0]]),
        ("1,2\n3,4\n", ["1", "2"], [[3, 4]]),
        ("0,1,2\n3,4,5\n", ["0", "1", "2"], [[3, 4, 5]]),
        ('"400","401"\n1,0\n', ["400", "401"], [[1, 0]]),
        ("0\n1\n5\n", ["0"], [[1], [5]]),
    ],
    ids=[
        "plain",
        "blank lines",
        "Excel",
        "broken header",
        "truth",
        "numbers",
        "pandas' names",
        "quoted numbers",
        "one column",
    ],
)
def test_csv(text_file, content, names, rows):
    table = read_table(text_file(content))
    assert table.names == names
    np.testing.assert_array_equal(table.rows, rows)


def test_types_are_inferred_from_the_whole_file(text_file, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 1 << 10)
    table = read_table(text_file("a\n" + "1\n" * 10_000 + "1.5\n"))
    assert len(table.rows) == 10_001
    assert table.rows[-2:, 0].tolist() == [1, 1.5]
    late = read_table(text_file("a\n" + "1\n" * 10_000 + "late\n"))
    assert late.frame["a"].to_pylist() == ["1"] * 10_000 + ["late"]
    assert "column 'a' is read as text, because of 'late' in line 10002: correct them" in late.notes[0]


def test_numbers_with_a_decimal_comma_are_not_called_the_reason_why_a_column_is_text(text_file):
    prices = [f"{i};{i},5" for i in range(20)]
    table = read_table(text_file("\n".join(["n;price", *prices, "20;ask us", ""])))
    assert "column 'price' is read as text, because of 'ask us' in line 22: correct them" in table.notes[1]
    assert not_numbers(pa.array(["1,5", "free", None])).to_pylist() == [False, True, False]
    assert not_numbers(pa.array(["1.5", "8,05"])).to_pylist() == [False, True]


def test_a_cell_of_many_lines_may_be_anywhere(text_file, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 1 << 10)
    path = text_file("a,review\n" + '1,"good,\nbut not 2,3"\n' * 500)
    assert read_table(path, exclude=["review"]).rows.tolist() == [[1]] * 500


def test_the_index_of_a_pandas_frame_is_not_read(tmp_path):
    pd.DataFrame({"a": [1, 2]}, index=[7, 9]).to_parquet(tmp_path / "rows.parquet")
    table = read_table(tmp_path / "rows.parquet")
    assert table.names == ["a"]


# -- choosing and matching


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_choosing_columns(tmp_path, ending):
    path = tmp_path / f"rows{ending}"
    write_columns(path, {"a": np.array([1.0]), "b": np.array([2.0]), "c": np.array([3.0])})
    chosen = read_table(path, include=["c", "a", "b"], exclude=["b"])
    assert chosen.names == ["c", "a"]
    assert chosen.rows.tolist() == [[3, 1]]


def test_columns_without_names_are_chosen_by_number(tmp_path):
    np.save(tmp_path / "rows.npy", np.arange(6).reshape(2, 3))
    assert read_table(tmp_path / "rows.npy", exclude=["1"]).rows.tolist() == [[0, 2], [3, 5]]
    assert read_matching(tmp_path / "rows.npy", None, 2, include=["2", "0"]).rows.tolist() == [[2, 0], [5, 3]]


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_columns_are_matched_by_name(tmp_path, text_file, ending):
    frame = pd.DataFrame({"label": ["x", "y"], "b": [2, 20], "a": [1, 10]})
    path = tmp_path / f"rows{ending}"
    frame.to_csv(path) if ending == ".csv" else frame.to_parquet(path)
    table = read_matching(path, ["a", "b"], 2)
    assert table.names == ["a", "b"]
    assert table.rows.tolist() == [[1, 2], [10, 20]]


def test_columns_are_matched_by_position_without_names(text_file):
    bare, named = text_file("1,2\n", "bare.csv"), text_file("x,y\n1,2\n", "named.csv")
    options = {bare: TextOptions(header=False), named: TextOptions()}
    assert read_matching(bare, ["a", "b"], 2, text=options[bare]).names == ["a", "b"]
    assert read_matching(named, None, 2).names is None
    for path in (bare, named):
        with pytest.raises(DataError, match=r"must have 3 columns, as fitted\. Got 2\."):
            read_matching(path, None, 3, text=options[path])


def test_a_missing_column_is_named(text_file):
    with pytest.raises(DataError, match=r"lacks columns.*none named 'width'\. Did you mean 'widht'\?"):
        read_matching(text_file("height,widht\n1,2\n"), ["height", "width"], 2)


def test_columns_have_the_types_of_their_cells(text_file):
    content = "n,x,who,is,when,at,zip,gap\n1,0.5, a b,True,2020-01-31,2020-01-31T10:00:00,01234,\n,NA,?,,,null,99999,\n"
    frame = read_table(text_file(content)).frame
    types = ["int64", "double", "string", "bool", "date32[day]", "timestamp[s]", "string", "null"]
    assert [str(kind) for kind in frame.schema.types] == types
    assert [column[1].as_py() for column in frame.columns] == [None] * 6 + ["99999", None]
    assert (frame["who"][0].as_py(), frame["zip"][0].as_py()) == (" a b", "01234")


def test_columns_that_were_text_are_read_as_text(text_file):
    path = text_file("a,b\n1,2\n")
    assert str(read_table(path, text=TextOptions(text=["a"])).frame.schema.field("a").type) == "string"
    kinds = {"a": "dictionary<values=string, indices=int32, ordered=0>", "b": "double"}
    assert read_matching(path, ["a", "b"], 2, fitted=kinds).frame.to_pylist() == [{"a": "1", "b": 2}]
    for kind, what in [
        ("double", "numbers"),
        ("bool", "booleans"),
        ("timestamp[s]", "times"),
        ("time32[s]", "durations"),
    ]:
        with pytest.raises(DataError, match=rf"Column 'a' of .* must have {what}, as in fitting\. Got 'x' in line 3\."):
            read_matching(text_file("a,b\n,1\nx,2\n"), ["a"], 1, fitted={"a": kind})


def test_cells_that_stand_for_gaps_are_named(text_file):
    table = read_table(
        text_file("a,b\n-999,2\nunknown,3\n1,none of these\n"), text=TextOptions(gaps=["-999", "unknown"])
    )
    assert table.frame.to_pydict() == {"a": [None, None, 1], "b": ["2", "3", "none of these"]}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".arrow"])
def test_typed_columns_survive(tmp_path, ending):
    columns = {
        "n": pa.array([1, None]),
        "x": [0.5, 2.0],
        "who": ['a "b", c', "NB"],
        "is": [True, None],
        "when": pa.array([0, None], pa.date32()),
        "at": pa.array([0, 1], pa.timestamp("ms" if ending == ".parquet" else "s")),
    }
    write_columns(tmp_path / f"rows{ending}", pa.table(columns))
    assert read_table(tmp_path / f"rows{ending}").frame.equals(pa.table(columns))


def test_categories_and_other_types_are_written_as_text(tmp_path):
    columns = {
        "kind": pa.array(["b", "a", None]).dictionary_encode(),
        "half": pa.array(np.array([1.5, 2, 3], np.float16)),
        "took": pa.array([1, 2, None], pa.duration("s")),
        "list": [[1], [2, 3], None],
    }
    write_columns(tmp_path / "rows.csv", pa.table(columns))
    assert read_table(tmp_path / "rows.csv").frame.to_pydict() == {
        "kind": ["b", "a", None],
        "half": [1.5, 2.0, 3.0],
        "took": ["0:00:01", "0:00:02", None],
        "list": ["[1]", "[2, 3]", None],
    }


def test_an_estimator_learns_the_names(text_file):
    table = read_table(text_file("a,b\n1,2\n3,4\n5,7\n"))
    with warnings.catch_warnings(action="error"):
        model = Autoencoder(n_components=1, max_epochs=0, random_state=0).fit(table.frame)
        codes = model.transform(table.frame)
    assert list(model.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(codes, model.transform(pd.DataFrame(table.rows, columns=["a", "b"])))


# -- files that an estimator is given by name


def npy(array, **given):
    file = io.BytesIO()
    np.save(file, array, **given)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\x00" * 99, "cannot be read as an array of numbers"),
        (npy(np.ones((9, 2)))[:-5], r"is cut off\. Got 139 bytes of an array of 144"),
        (npy(np.ones((9, 2)))[:40], "cannot be read as an array of numbers"),
        (npy(np.array([[1, None]], dtype=object), allow_pickle=True), r"real numbers\. Got the type object"),
    ],
)
def test_an_array_that_cannot_be_read_is_an_error_of_this_package(text_file, content, says):
    name = text_file(content, "rows.npy")
    fitted = Autoencoder(1, max_epochs=0, random_state=0).fit(np.arange(6.0).reshape(3, 2))
    for ask in (Autoencoder(1).fit, fitted.transform, fitted.score):
        with pytest.raises((DataError, FileError), match=says) as error:
            ask(name)
        assert "pickle" not in str(error.value)


def test_what_was_assumed_of_a_file_is_a_warning_in_python(text_file):
    name = text_file("1.5,2.5\n1,2\n3,4\n5,7\n")
    with pytest.warns(ResultWarning, match=r"if it is a row, give --no-header or --names; in Python, .* pandas"):
        Autoencoder(1, max_epochs=0, random_state=0).fit(name)
    with pytest.warns(ResultWarning, match="the first column has no name and is left out"):
        Autoencoder(1, max_epochs=0, random_state=0).fit(text_file(",a,b\n7,1.5,2\n8,2.5,3\n9,0,1\n"))
    with pytest.raises(DataError, match=r"--separator; in Python, read the file with pandas and give the frame\.$"):
        Autoencoder(1).fit(text_file("a,b\n1,2\n3\n"))


# -- errors


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n3\n", r"must have 2 cells, as the first line has\. Got 1 in line 3\."),
        ('a,b\n1,"x\ny"\n3\n', r"Got 1 in line 4\."),
        ("", "is empty"),
        ("a,b\n", "has no rows"),
        ("a,b\n1,inf\n2,-inf\n", r"infinite cells\. Got 2 in column 'b' \(the first in line 2\)\. Fill them, or drop"),
        ("a,,b\n0,1,2\n", r"Column 2 of .* has no name\..*--exclude ''"),
        ("a,b,a\n1,2,3\n", r"more than one column of the same name\. Got 'a'\. Rename one\."),
        (b"a,\xe9\n1,2\n", "not text in UTF-8"),
    ],
)
def test_csv_that_is_refused(text_file, content, says):
    with pytest.raises((DataError, FileError), match=says):
        read_table(text_file(content))


def test_an_index_without_a_name_is_left_out(text_file):
    """As pandas writes it in front of the columns."""
    table = read_table(text_file(",a,b\n7,1.5,2\n8,2.5,3\n"))
    assert table.names == ["a", "b"]
    assert "the first column has no name and is left out" in table.notes[0]


def test_only_columns_that_are_read_are_checked(text_file):
    path = text_file(",label,a\n0,x,1.5\n1,,2.5\n")
    assert read_table(path, exclude=["", "label"]).rows.tolist() == [[1.5], [2.5]]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros(3), r"two dimensions, rows and columns\. Got the shape \(3,\)\."),
        (np.zeros((2, 3, 3)), r"reshape\(len\(array\), -1\)"),
        (np.zeros((0, 3)), "has no rows"),
        (np.array([[1j]]), r"real numbers\. Got the type complex128"),
        (np.array([["x"]]), "real numbers"),
    ],
)
def test_arrays_that_are_refused(tmp_path, array, says):
    np.save(tmp_path / "rows.npy", array)
    with pytest.raises(DataError, match=says):
        read_table(tmp_path / "rows.npy")


def test_pickles_are_not_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.array([[1, None]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"real numbers\. Got the type object\. Save array\.astype\(float\)"):
        read_table(tmp_path / "rows.npy")


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_files_in_another_format_than_their_ending(text_file, ending):
    with pytest.raises(FileError, match="cannot be read as"):
        read_table(text_file("neither\1", f"rows{ending}"))


def test_columns_that_do_not_exist(text_file):
    path = text_file("height,width\n1,2\n")
    with pytest.raises(DataError, match=r"has no column 'hight'\. Did you mean 'height'\?$"):
        read_table(path, include=["hight"])
    with pytest.raises(DataError, match="No column of .* is left"):
        read_table(path, exclude=["width", "height"])


def test_a_link_to_nowhere_is_named(tmp_path):
    for name in ("rows.csv", "image.png", "model.safetensors"):
        (tmp_path / name).symlink_to("gone")
        read = load if name.startswith("model") else Autoencoder(1).fit
        with pytest.raises(FileNotFoundError, match=rf"Got '.*{name}', a link to 'gone', which does not exist\.$"):
            read(tmp_path / name)


def test_files_that_do_not_exist(text_file, tmp_path):
    text_file("a\n1\n", "rows.csv")
    with pytest.raises(FileError, match=r"There is no file '.*rwos\.csv'\. Did you mean 'rows\.csv'\?$"):
        read_table(tmp_path / "rwos.csv")
    with pytest.raises(FileError, match=r"Got '\.cvs'\. Did you mean '\.csv'\?"):
        read_table(tmp_path / "rows.cvs")
    with pytest.raises(FileError, match=r"There is no file or folder '.*rows'\.$"):
        read_table(tmp_path / "rows")
    text_file("a\n1\n", "rows")
    with pytest.raises(
        FileError, match=r"Got no ending\. Known are: '\.csv', '\.tsv', '\.parquet', '\.arrow', '\.feather', '\.npy'\."
    ):
        read_table(tmp_path / "rows")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match="The folder .*folder.csv' has no table"):
        read_table(tmp_path / "folder.csv")


# -- writing


def test_an_error_while_writing_keeps_the_old_file(tmp_path):
    path = tmp_path / "rows.bin"
    path.write_bytes(b"old")

    def write_half():
        with atomic_write(path) as file:
            file.write(b"half of the new")
            assert path.read_bytes() == b"old"
            raise RuntimeError("the power failed")

    with pytest.raises(RuntimeError, match="the power failed"):
        write_half()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["rows.bin"]


def test_an_open_reader_keeps_the_old_file(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.eye(2))
    mapped = read_table(path).rows
    write_columns(path, {"a": np.array([7.0, 8.0])})
    assert mapped.tolist() == [[1, 0], [0, 1]]
    assert read_table(path).rows.tolist() == [[7], [8]]


def test_writing_are_checked_before_the_work(tmp_path, monkeypatch):
    check_output(tmp_path / "rows.csv", ENDINGS)
    check_output(tmp_path / "model.safetensors", [".safetensors"])
    assert os.listdir(tmp_path) == []
    with pytest.raises(FileError, match="there is no folder '.*nowhere'"):
        check_output(tmp_path / "nowhere" / "rows.csv", ENDINGS)
    with pytest.raises(FileError, match=r"Known are: '\.safetensors'"):
        check_output(tmp_path / "rows.csv", [".safetensors"])
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(FileError, match="it is a folder"):
        check_output(tmp_path / "folder.csv", ENDINGS)

    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(FileError, match="Cannot write into the folder .*Permission denied"):
        check_output(tmp_path / "rows.csv", ENDINGS)


def test_a_failed_write_raises(tmp_path):
    with pytest.raises(FileError, match="Cannot write .*No such file or directory"):
        write_columns(tmp_path / "nowhere" / "rows.csv", NUMBERS)
