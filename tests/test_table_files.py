"""Table files as people have them: what is detected, what is noted, and which cell an error shows."""

import bz2
import gzip
import io
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from eigencode.cli import main
from eigencode.data import contents, delimited, memory, text_pieces
from eigencode.data.files import concatenated, matching_columns, read_table
from eigencode.data.formats import TextOptions
from eigencode.errors import DataError, EigencodeError, FileError, OptionError

pytestmark = pytest.mark.versions

BARE = TextOptions(header=False)


def read_matching(source, names, n_columns, **given):
    return concatenated([each.read() for each in matching_columns(source, names, n_columns, **given)])


@pytest.fixture
def file(tmp_path):
    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# -- separators and decimal marks


@pytest.mark.parametrize(
    ("content", "text", "names", "rows", "says"),
    [
        ("a;b\n1,5;2\n3;4\n", {}, ["a", "b"], [[1.5, 2], [3, 4]], "separator semicolon and decimal comma"),
        ("1,5;2,5\n3,5;4,5\n", {"header": False}, None, [[1.5, 2.5], [3.5, 4.5]], "semicolon and decimal comma"),
        ("5;2\n6;3\n", {"header": False}, None, [[5, 2], [6, 3]], "separator semicolon"),
        ("a;b\n1.5;2\n", {}, ["a", "b"], [[1.5, 2]], "separator semicolon"),
        ("a;b\n-1,5e-3;,5\n", {}, ["a", "b"], [[-1.5e-3, 0.5]], "decimal comma"),
        ("a\tb\n1\t2\n", {}, ["a", "b"], [[1, 2]], "separator tab"),
        ("a|b\n1|2\n", {}, ["a", "b"], [[1, 2]], "separator pipe"),
        ("1.5 2\n3 4\n", {"header": False}, None, [[1.5, 2], [3, 4]], "separator space"),
        ('"x;y","a, b"\n1,2\n', {}, ["x;y", "a, b"], [[1, 2]], None),
        ('x;"a, b"\n1;2\n', {}, ["x", "a, b"], [[1, 2]], "separator semicolon"),
        ('a,b\n"1,5","2,25"\n', {}, ["a", "b"], [[1.5, 2.25]], "decimal comma"),
        ("a\n1,5\n2,5\n", {"decimal": ","}, ["a"], [[1.5], [2.5]], None),
        ("a;b\n1,5;2\n", {"separator": ";", "decimal": "comma"}, ["a", "b"], [[1.5, 2]], None),
        ("a\tb\n1,5\t2\n", {"separator": "tab"}, ["a", "b"], [[1.5, 2]], "decimal comma"),
        ("sep=;\r\na;b\r\n1;2\r\n", {}, ["a", "b"], [[1, 2]], "separator semicolon"),
        ("a,b,\n1,2,\n3,4,\n", {}, ["a", "b"], [[1, 2], [3, 4]], None),
        ("a;b\n1;2;\n3;4;\n", {}, ["a", "b"], [[1, 2], [3, 4]], "separator semicolon"),
        ('"a"\n"1"\n"2"\n', {}, ["a"], [[1], [2]], None),
        ("a,b\r1,2\r3,4\r", {}, ["a", "b"], [[1, 2], [3, 4]], None),
        ("a, b\n1, 2\n", {}, ["a", "b"], [[1, 2]], None),
        ("a,b\n18446744073709551616,1\n", {}, ["a", "b"], [[2.0**64, 1]], None),
        (f"a\n{2**70}\n", {}, ["a"], [[2.0**70]], None),
    ],
)
def test_the_dialect_of_text_is_detected(file, content, text, names, rows, says):
    table = read_table(file(content), text=TextOptions(**text))
    assert table.names == names
    np.testing.assert_array_equal(table.rows, rows)
    assert (says in table.notes[0]) if says else (table.notes == ())


def test_the_separator_is_detected_in_lines_of_many_cells(file):
    frame = pd.DataFrame(
        np.random.default_rng(0).normal(size=(3000, 30)).round(2), columns=[f"c, {i}" for i in range(30)]
    )
    for separator, decimal in [(",", "."), (";", ","), ("\t", ","), ("|", "."), (";", ".")]:
        path = file(frame.to_csv(index=False, sep=separator, decimal=decimal))
        table = read_table(path)
        assert table.names == list(frame.columns)
        np.testing.assert_array_equal(table.rows, frame.to_numpy())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\n1,5\n2,5\n", r"must have 1 cell, .* Got 2 in line 2\. If a comma is the decimal mark, give --decimal ,\."),
        ("a;b\n1;2;3\n", r"Got 3 in line 2\. If the cells are not separated by a semicolon, name the separator"),
        ("a,b\n1,2,\n3,4,7\n", r"must have 2 cells.*Got 3 in line 2"),
        ("a,b\n" + "1,2,\n" * 3000 + "3,4,7\n", r"must have 2 cells.*Got one more in line 3002"),
        ('a,b\n1,2\n3,"4\n5,6\n', r"a cell whose quote is not closed\. Got line 3"),
        ("a,b\n1e400,2\n", r"infinite cells\. Got 1 in column 'a' \(the first in line 2\)"),
        ("# title\na,b\n1,2\n", r"Got 2 in line 2\. If the first line is a title or a comment, remove it\.$"),
        ("a,b\n1,2\n# note\n3,4\n", r"Got 1 in line 3\. Remove lines of comments\.$"),
        ("a,b,,,\n1,2,,,\n", r"2 columns of .* have no names\. Got column 3 first\. Name them, or choose"),
        ("5,6", r"has no rows\. If the first line is a row, give --no-header"),
        ("a,b\n", r"has no rows\.$"),
    ],
)
def test_errors_show_the_cell_and_its_line(file, content, says):
    with pytest.raises(DataError, match=says):
        read_table(file(content))


def many(cell):
    """A table of one column with 26 different cells."""
    return "a\n" + "".join(f"{cell.format(i)}\n" for i in range(520, 546))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (many('"1,{}"'), "'1,520' in line 2 and 25 more cells: write numbers without commas between thousands"),
        (many("1.{}.000"), "'1.520.000' in line 2 and 25 more cells: write numbers without separators of thousands"),
        (
            "a;b\n1,5;2.5\n3;4.5\n5;6\n",
            r"'1,5' in line 2: write all numbers with the same decimal mark \(--decimal , r",
        ),
        ("a,b\n12 km,2\n3,4\n5,6\n", "'12 km' in line 2: write numbers without units or signs beside them"),
        (
            "a,b\n1,2\n3,4\n\n5,x\n6,y\n7,8\n9,9\n",
            "'b' is read as text, because of 'x' in line 5 and 1 more",
        ),
        (many("12-31-1{}"), "'12-31-1520' in line 2 and .* write dates as year-month-day, as 2020-12-31"),
        (many("{}%"), "'520%' in line 2 and 25 more cells: write numbers without units"),
        (many("${}"), "'\\$520' in line 2"),
        ("a,b\n\u22121,2\n-3,4\n5,6\n", "write numbers with the digits 0 to 9, the sign - and plain spaces"),
        ("a,b\n1\u00a0,2\n3,4\n5,6\n", r"'1\\xa0' in line 2.*plain spaces alone"),
        ("a  b\n1  2\n3  4\n", r"only one column, 'a  b': write one character, such as a comma, between cells inst"),
        ("a:b\n1:2\n3:4\n", r"only one column, 'a:b': name the character between cells with --separator"),
        ("zip\n01234\n99999\n", "'zip' has numbers with zeros before them, and is read as text"),
        (f"a\n1\n2\n{'x' * 200_000}\n", r"because of 'x{37}\.\.\.' in line 4"),
    ],
)
def test_text_that_is_nearly_numbers_is_noted(file, content, says):
    table = read_table(file(content))
    assert "string" in map(str, table.frame.schema.types)
    assert re.search(says, table.notes[-1])


@pytest.mark.parametrize("cells", [["C85", "C3"], ["1st", "2nd"], ["red", "blue"], ["5 mg", "10 mg"], ["a", "1"]])
def test_text_is_not_noted(file, cells):
    assert read_table(file("a,b\n" + "".join(f"{cell},1\n" for cell in cells))).notes == ()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("c.parquet", b"a,b\n1,2\n", r"not in the format of its ending, '\.parquet'\. Got text\. .* as \.csv"),
        ("c.npy", b"a,b\n1,2\n", r"format of its ending, '\.npy'\. Got text"),
        ("c.arrow", b"a,b\n1,2\n", r"format of its ending, '\.arrow'\. Got text"),
        ("p.arrow", b"PAR1\x15\x04", r"format of its ending, '\.arrow'\. Got Parquet"),
        ("n.parquet", b"\x93NUMPY\x01\0", r"format of its ending, '\.parquet'\. Got NPY"),
        ("s.npy", b"\xff\xff\xff\xff\0\0", r"format of its ending, '\.npy'\. Got Arrow"),
        ("c.csv.gz", b"a,b\n1,2\n", r"is not compressed, but its name ends in '\.gz'"),
        (
            "c.csv.gz",
            gzip.compress(gzip.compress(b"a\n1\n", mtime=0), mtime=0),
            r"Got a compressed file in a compressed file\. Unpack",
        ),
        ("j.csv", b'[{"a": 1}]', r"not text with a separator\. Got JSON\. Save the table as CSV"),
        ("z.csv", bytes(100), "is not text.* Got the byte 0x00 in line 1"),
    ],
)
def test_content_in_another_format_than_the_ending(file, name, content, says):
    with pytest.raises(FileError, match=says):
        read_table(file(content, name))


def test_a_compression_is_detected_from_the_first_bytes(file):
    assert read_table(file(gzip.compress(b"a,b\n1,2\n", mtime=0), "c.csv.bz2")).rows.tolist() == [[1, 2]]


def test_an_array_without_columns(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 0)))
    with pytest.raises(DataError, match=r"x\.npy' has no columns\.$"):
        read_table(tmp_path / "x.npy")


@pytest.mark.parametrize("gap", ["", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "-", "#N/A", " ?", "<NA>"])
def test_all_ways_to_write_a_gap(file, gap):
    table = read_table(file(f"a,b,c\n1,2,x\n3,{gap},{gap}\n"))
    assert table.frame.to_pylist()[1] == {"a": 3, "b": None, "c": None}
    np.testing.assert_array_equal(read_table(file(f"a,b\n1,2\n3,{gap}\n")).rows, [[1, 2], [3, np.nan]])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"separator": "ab"}, "A separator is one character"),
        ({"separator": '"'}, "A separator is one character"),
        ({"decimal": "x"}, "A decimal mark is a point or a comma"),
        ({"encoding": "latn-1"}, "no such encoding of text.*Did you mean 'latin-1'"),
        ({"encoding": "hex"}, "no such encoding of text"),
    ],
)
def test_options_of_text_are_checked(file, options, says):
    with pytest.raises(OptionError, match=says):
        read_table(file("a,b\n1,2\n"), text=TextOptions(**options))


# -- headers


@pytest.mark.parametrize("header", ["0,1", "400,401", '"400","401"', "7,x"])
def test_the_first_line_is_the_header_and_numbers_in_it_are_noted(file, header):
    rows = "".join(f"{i},{i + 0.5}\n" for i in range(100))
    table = read_table(file(f"{header}\n{rows}"))
    assert len(table.rows) == 100
    assert table.names == header.replace('"', "").split(",")
    assert "was read as the names of the columns; if it is a row, give --no-header or --names." in table.notes[0]
    assert len(read_table(file(rows), text=BARE).rows) == 100
    assert read_table(file(rows), text=TextOptions(names=["p,q"])).names == ["p", "q"]


def test_hints_for_headers_that_may_be_rows(file):
    with pytest.raises(
        DataError, match=r"same name\. Got '0'\. If the first line is a row, give --no-header or --names\."
    ):
        read_table(file("0,0\n1,2\n"))
    assert "if it is a row, give --no-header or --names" in read_table(file("39,word\n40,b\n")).notes[0]
    noted = read_table(file("a,b\n1,2\n3,4\n5,6\n"), text=BARE).notes[0]
    assert "because of 'a' in line 1: if the first line has names, leave out --no-header" in noted
    with pytest.raises(DataError, match=r"has 2 columns, and needs as many names\. Got 1 in --names"):
        read_table(file("1,2\n"), text=TextOptions(names=["a"]))


def test_names_may_be_listed_with_commas(file):
    path = file('a,"b,c",d\n1,2,3\n')
    assert read_table(path, include=["d, a"]).names == ["d", "a"]
    assert read_table(path, include=["b,c", "a"]).names == ["b,c", "a"]
    assert read_table(path, include=['a,"b,c"']).names == ["a", "b,c"]
    assert read_table(path, exclude=["a,d"]).names == ["b,c"]
    assert read_matching(path, ["a", "d"], 2, exclude=["b,c"]).rows.tolist() == [[1, 3]]


# -- encodings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_byte_order_mark_are_read(file, encoding):
    assert read_table(file("größe,b\n1,2\n".encode(encoding))).names == ["größe", "b"]


def test_errors_name_the_encoding(file):
    path = file("größe,b\n1,2\n".encode("latin-1"))
    with pytest.raises(
        FileError, match=r"byte 0xf6 in line 1, column 1, which is 'größe' in Latin-1\..*--encoding latin-1"
    ):
        read_table(path)
    assert read_table(path, text=TextOptions(encoding="latin-1")).names == ["größe", "b"]
    far = ("a,b,c\n" + "1,2,x\n" * 5000 + "3,4,é\n").encode("latin-1")
    assert len(read_table(file(far), include=["a", "b"]).rows) == 5001
    with pytest.raises(FileError, match=r"the byte 0xe9 in line 5002, column 'c', which is 'é' in Latin-1"):
        read_table(file(far))
    with pytest.raises(FileError, match=r"not text in utf-16\. Got the error no line of it ends\. Try another"):
        read_table(file(b"ab,cd\n1,2\n3,4\n5,6\n78"), text=TextOptions(encoding="utf-16"))
    with pytest.raises(FileError, match="zeros between its characters.*--encoding utf-16-le"):
        read_table(file("a,b\n1,2\n".encode("utf-16-le")))
    with pytest.raises(FileError, match="is not text in utf-16"):
        read_table(file(b"\xff\xfea"))


# -- formats


def in_formats(frame):
    """The bytes of a frame as files of all formats, by ending."""
    text = frame.to_csv(index=False).encode()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    parquet, arrow, stream, npy = (io.BytesIO() for _ in range(4))
    pa.parquet.write_table(table, parquet)
    for opened, sink in ((pa.ipc.new_file, arrow), (pa.ipc.new_stream, stream)):
        with opened(sink, table.schema) as writer:
            writer.write_table(table)
    np.save(npy, frame.to_numpy())
    zst = pa.BufferOutputStream()
    with pa.CompressedOutputStream(zst, "zstd") as packed:
        packed.write(text)
    return {
        ".csv": text,
        ".tsv": frame.to_csv(index=False, sep="\t").encode(),
        ".csv.gz": gzip.compress(text, mtime=0),
        ".tsv.gz": gzip.compress(frame.to_csv(index=False, sep="\t").encode(), mtime=0),
        ".csv.bz2": bz2.compress(text),
        ".csv.zst": zst.getvalue().to_pybytes(),
        ".parquet": parquet.getvalue(),
        ".arrow": arrow.getvalue(),
        ".feather": arrow.getvalue(),
        ".ipc": stream.getvalue(),
        ".npy": npy.getvalue(),
    }


FRAME = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3)), columns=["a", "b", "c"])
IN_FORMATS = in_formats(FRAME)


@pytest.mark.parametrize("ending", IN_FORMATS)
def test_formats_are_found_by_ending_and_in_a_stream_by_content(file, ending):
    named = read_table(file(IN_FORMATS[ending], f"rows{ending}"))
    streamed = read_table(io.BytesIO(IN_FORMATS[ending]))
    for table in (named, streamed):
        np.testing.assert_array_equal(table.rows, FRAME.to_numpy())
        assert table.names == (None if ending == ".npy" else ["a", "b", "c"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
@pytest.mark.parametrize("ending", [".csv", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("name", ["pipe", "pipe.csv"])
def test_a_pipe_is_read_once(tmp_path, ending, name):
    if name == "pipe.csv" and ending == ".parquet":
        pytest.skip("the ending says CSV")
    pipe = tmp_path / name
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(IN_FORMATS[ending]), daemon=True)
    writer.start()
    np.testing.assert_array_equal(read_table(pipe).rows, FRAME.to_numpy())
    writer.join(5)


@pytest.mark.parametrize(
    ("values", "kind", "right"),
    [
        ([2**64 - 1], pa.uint64(), 2.0**64),
        ([np.float16(1.5)], pa.float16(), 1.5),
        ([True], None, 1),
        ([pa.scalar(150, pa.decimal128(5, 0)).as_py()], pa.decimal128(5, 2), 150),
        ([1.5], pa.dictionary(pa.int8(), pa.float64()), 1.5),
        ([None], pa.float64(), np.nan),
        ([pd.Timestamp("2020-01-01")], None, "dates or times"),
        ([pd.Timedelta(1, "D")], pa.duration("us"), "dates or times"),
        (["1"], pa.large_string(), "numbers written as text"),
        (["v"], pa.dictionary(pa.int8(), pa.string()), "not numbers"),
        ([b"v"], None, "not numbers"),
        ([[1]], None, "cells that are not numbers"),
    ],
)
@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_columns_of_every_type_are_read(tmp_path, values, kind, right, ending):
    table = pa.table({"x": pa.array(values, kind), "y": pa.array([0.5])})
    path = tmp_path / f"rows{ending}"
    if ending == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    assert read_table(path).frame.to_pylist() == table.to_pylist()
    if isinstance(right, str):
        with pytest.raises(DataError, match=right):
            read_table(path).rows  # noqa: B018 (a property)
    else:
        np.testing.assert_array_equal(read_table(path).rows, [[right, 0.5]])


def npy(array, **changes):
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    for old, new in changes.get("patched", {}).items():
        assert old in content
        content = content.replace(old, new)
    return content


@pytest.mark.parametrize(
    "array", [np.eye(2, dtype=">f8"), np.asfortranarray([[1.0, 2], [3, 4]]), np.eye(2, dtype=np.longdouble)]
)
def test_arrays_of_other_layouts(file, array):
    rows = read_table(file(npy(array), "rows.npy")).rows
    np.testing.assert_array_equal(rows, array)
    assert rows.dtype == np.float64
    assert rows.dtype.isnative


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (npy(np.eye(2))[:-5], r"is cut off\. Got 27 bytes of an array of 32"),
        (npy(np.eye(2), patched={b"(2, 2)": b"(2, (2"}), "cannot be read as an array of numbers"),
        (npy(np.eye(2), patched={b"(2, 2)": b"(2,99)"}), "is cut off"),
        (npy(np.eye(2), patched={b"(2, 2)": b"(-2,2)"}), "is damaged"),
        (npy(np.eye(2), patched={b"'<f8'": b"'|O8'"}), r"the type object\. Save array\.astype\(float\)"),
        (npy(np.array([(1, 2.0)], [("a", int), ("b", float)])), "structured_to_unstructured"),
        (b"PK\x03\x04", r"is not NPY\. Got an \.npz archive\. Save one array"),
        (b"", "is empty"),
        (b"\x93NUM", "cannot be read as an array of numbers"),
    ],
)
def test_arrays_that_are_damaged(file, content, says):
    with pytest.raises(EigencodeError, match=says):
        read_table(file(content, "rows.npy"))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.csv.gz", "rows.npy", "rows.csv"])
def test_files_that_are_empty(file, name):
    with pytest.raises(EigencodeError, match="is empty|cannot be decompressed"):
        read_table(file(b"", name))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rows.xlsx", "Save the sheet as CSV"),
        ("rows.pkl", "Pickles can run programs"),
        ("rows.json", "Save it as CSV"),
        ("rows.npz", "Save one of its arrays"),
        ("rows.zip", "Unpack it first"),
        ("rows", "Got no ending"),
    ],
)
def test_endings_of_other_formats(file, name, says):
    with pytest.raises(FileError, match=says):
        read_table(file("a\n1\n", name))


def test_binary_files_under_the_name_of_text(file):
    for content, kind in [(b"PK\x03\x04...", "zip"), (b"PAR1\x15\x00", "Parquet"), (b"\x89PNG\r\n", "PNG")]:
        with pytest.raises(FileError, match=rf"is not text\. Got .*{kind}"):
            read_table(file(content))


def test_cells_may_be_longer_than_a_block(file, monkeypatch):
    assert read_table(file(f'a,s\n1,"{"x" * 200_000}"\n'), exclude=["s"]).rows.tolist() == [[1]]
    monkeypatch.setattr(delimited, "BLOCK", 1 << 12)
    assert read_table(file(f'a,s\n1,"{"x" * 200_000}"\n2,y\n'), exclude=["s"]).rows.tolist() == [[1], [2]]


def test_threads_read_no_record_longer_than_a_block(monkeypatch):
    """Many versions of pyarrow would never return. A quote that is never closed makes all that follows one record."""
    monkeypatch.setattr(delimited, "BLOCK", 64)
    generator, found = random.Random(0), []
    for _ in range(400):
        cells = ["1,2", '"a\n""b",3', "x" * generator.randrange(90), '"' + "y\n" * generator.choice([9, 40]) + '"']
        n_lines = generator.randrange(1, 12)
        text = "\n".join(generator.choices(cells, weights=[6, 6, 1, 1], k=n_lines)) + generator.choice(
            ["\n", "", '\n"']
        )
        longest = max(map(len, re.findall(r'(?:"[^"]*(?:"|\Z)|[^"\n])*\n?', text)))
        is_long = text_pieces.may_have_long_record(pa.py_buffer(text.encode()), 64)
        assert is_long or len(text) <= 64 or longest <= 64, text
        assert not is_long or longest >= 32, text
        found.append(is_long)
    assert 40 < sum(found) < 360


# -- memory


def test_a_small_file_must_not_decompress_to_a_large_table(tmp_path, file):
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.table({"x": pa.array(np.zeros(12_000_000, np.int64))}), path, compression="zstd")
    assert path.stat().st_size < memory.SMALL_FILE
    with pytest.raises(
        DataError, match=r"too small a file for what it decompresses to\. Got .* kB that become 96\.0 MB"
    ):
        read_table(path)
    with pytest.raises(DataError, match="too small a file for what it decompresses to"):
        read_table(file(gzip.compress(b"a\n" + b"0\n" * 20_000_000, mtime=0), "rows.csv.gz"))


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".csv.gz"])
def test_memory_is_checked_before_it_is_used(file, monkeypatch, ending):
    path = file(IN_FORMATS[ending], f"rows{ending}")
    monkeypatch.setattr(memory, "available_memory", lambda: 400.0)
    monkeypatch.setattr(memory, "SMALL_WORK", 0)
    with pytest.raises(DataError, match=r"Reading .* needs about .* kB\. Got 0\.4 kB of memory"):
        read_table(path)


# -- several files


def test_rows_of_several_files_are_concatenated(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("many")
    file("a,b\n1,2\n", "many/1.csv")
    file("b,a\n4,3\n", "many/2.csv")
    for source in ("many", "many/*.csv", ["many/1.csv", Path("many/2.csv")], "m*/[12].csv"):
        table = read_table(source)
        assert table.names == ["a", "b"]
        assert table.rows.tolist() == [[1, 2], [3, 4]]
    assert read_matching("many", ["b"], 1).rows.tolist() == [[2], [4]]
    file("b,a,c\n4,3,5\n", "many/3.csv")
    with pytest.raises(DataError, match=r"'many/3.csv' has an extra column 'c', unlike 'many/1.csv'"):
        read_table("many")
    assert read_table("many", include=["a"]).rows.tolist() == [[1], [3], [3]]
    file("b\n4\n", "many/3.csv")
    with pytest.raises(DataError, match=r"'many/3.csv' has no column 'a', unlike 'many/1.csv'"):
        read_table("many")
    file(IN_FORMATS[".parquet"], "many/3.parquet")
    with pytest.raises(FileError, match=r"tables in several formats\. Got '\.csv', '\.parquet'"):
        read_table("many")
    with pytest.raises(FileError, match="No file matches"):
        read_table("many/*.npy")


# -- the shell


def test_the_flags_for_reading(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = FRAME.to_csv(index=False, header=False, sep=";", decimal=",")
    file(rows, "one.csv"), file(rows, "two.csv")
    quick = ["--max-epochs", "0", "--n-components", "2", "--random-state", "0"]
    fit = ["fit", "one.csv", "two.csv", "--output", "m.safetensors", "--names", "x,y,z", "--exclude", "y", *quick]
    assert main(fit) == 0
    out, err = capsys.readouterr()
    assert "separator semicolon and decimal comma" in err
    assert "eigencode transform m.safetensors one.csv two.csv --output codes.parquet --names x,y,z" in out
    transform = ["transform", "m.safetensors", "*.csv", "--names", "x", "y", "z", "--output", "codes.parquet"]
    assert main(transform) == 0
    assert len(read_table("codes.parquet").rows) == 40
    assert main(["fit", "one.csv", "--output", "m.safetensors", "--separator", "tab", "--no-header", *quick]) == 1
    assert "there is only one column, '0': name the character between cells" in capsys.readouterr().err


def test_damaged_tables_raise_errors_of_this_package():
    """A few of the mutated tables that ``fuzz_tables.py`` reads by the thousand, under a limit of memory."""
    script = Path(__file__).with_name("fuzz_tables.py")
    found = subprocess.run([sys.executable, script, "150", "7"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.mark.parametrize("gap", ["?", "NA", " null", ""])
def test_gaps_of_wide_tables_are_gaps_too(file, gap):
    names = ",".join(f"c{i}" for i in range(delimited.WIDE + 1))
    ones = ",".join(["1"] * delimited.WIDE)
    assert read_table(file(f"{names}\n{ones},2\n")).rows.shape == (1, delimited.WIDE + 1)
    assert read_table(file(f"{names}\n{ones},{gap}\n")).frame["c1000"].null_count == 1


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_text_from_a_stream_is_parsed_in_memory_that_is_not_pythons(encoding, monkeypatch):
    # A thread of Arrow that has to release an object of Python while the interpreter ends aborts the process.
    calls, own = [], contents.in_arrow_memory

    def in_arrow_memory(blocks):
        blocks = list(blocks)
        before = [sys.getrefcount(block) for block in blocks]
        found = own(blocks)
        assert [sys.getrefcount(block) for block in blocks] == before
        calls.append(found)
        return found

    monkeypatch.setattr(contents, "in_arrow_memory", in_arrow_memory)
    monkeypatch.setattr(delimited, "in_arrow_memory", in_arrow_memory)
    table = read_table(io.BytesIO("x,y\n1,\u00e9\n".encode(encoding)), text=TextOptions(encoding=encoding))
    assert table.cells.to_pydict() == {"x": [1], "y": ["\u00e9"]}
    assert len(calls) == 1 + (encoding != "utf-8")
