"""Reports: what a page says is what the model does, it needs no network, and a browser draws it without an error."""

import base64
import html
import io
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from PIL import Image, ImageColor
from sklearn.datasets import load_digits

from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    ContractiveAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
    load,
)
from eigencode.data import memory
from eigencode.descriptions import description, summary
from eigencode.errors import DataError, FileError, OptionError, ResultWarning
from eigencode.export import graph_of
from eigencode.report import charts, findings, live, model_sections, sections, vega
from eigencode.report.columns import Column
from eigencode.report.findings import Findings, plane_of
from eigencode.report.notebook_card import card
from eigencode.report.page import HERE, SECTIONS, page
from eigencode.words import percent

vl_convert = pytest.importorskip("vl_convert")

QUICK = {"max_epochs": 3, "hidden": (8,), "random_state": 0}
N = 300


def people(n=N):
    """Columns of every kind, with gaps, and a name that would break a page."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=n)
    frame = pd.DataFrame({
        "height": 170 + 10 * z + rng.normal(size=n),
        "weight": 70 + 12 * z + 3 * rng.normal(size=n),
        "town</script><b>": np.where(z > 0.5, "Lyon & <i>", np.where(z > -0.5, "Bonn", "Oslo")),
        "member": z + rng.normal(size=n) > 0,
        "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.round(100 * z), unit="D"),
        "visits": rng.poisson(np.exp(z / 2 + 1)),
    })  # fmt: skip
    frame.loc[rng.random(n) < 0.1, "weight"] = np.nan
    frame.loc[rng.random(n) < 0.1, "town</script><b>"] = None
    return frame


@pytest.fixture(scope="module")
def model():
    return Autoencoder(2, **QUICK).fit(people())


@pytest.fixture(scope="module")
def found(model):
    return Findings(model, people())


@pytest.fixture(scope="module")
def text(model):
    return page(model, people())


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without what a browser sees only: pictures, and the program that draws; they take most of the time."""
    for name in ("picture", "picture_in_pixels", "program"):
        monkeypatch.setattr(vega, name, lambda *_: "")


class Page(HTMLParser):
    """The tags that are open, the charts, and addresses that a browser would ask for."""

    void = ("meta", "img", "br", "input", "link", "source")

    def __init__(self, text):
        super().__init__()
        self.open, self.sections, self.asked, self.charts, self.is_chart = [], [], [], [], False
        self.ids = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in self.void:
            self.open.append(tag)
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.asked += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        self.is_chart = tag == "script" and attrs.get("type") == "application/json" and "id" not in attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.is_chart:
            self.charts.append(json.loads(data))


class TestPage:
    @pytest.mark.versions
    def test_it_is_whole_and_asks_for_nothing(self, text):
        read = Page(text)
        assert read.open == []
        assert len(read.ids) == len(set(read.ids)), "two elements with one id hide one another"
        within = ("#", "data:image/png;base64,", "data:image/webp;base64,")
        assert all(address.startswith(within) for address in read.asked)
        assert {address[1:] for address in read.asked if address.startswith("#")} <= set(read.ids)
        assert len(text) < 2_000_000
        assert "<tr><thead>" not in text

    def test_its_text_comes_before_its_programs_and_their_values(self, text):
        body = text[text.index("<body>") : text.index("</main>")]
        assert "<script" not in body
        assert len(body) < 0.5 * len(text)
        for program in re.findall(r"<script>(.*?)</script>", text, re.DOTALL):
            assert len(program) < 30_000, "this program is read before the page can be used"

    def test_what_only_specialists_know_is_in_their_sections(self, text):
        """The formula's terms by their names are; what nats are is said where the objective is."""
        for_all, _, for_specialists = text.partition('<section id="about-training"')
        assert "Point()" in for_specialists
        assert "Point()" not in for_all
        assert "One nat less is a row 2.7 times as likely" in for_all

    def test_numbers_keep_the_digits_before_their_point(self):
        numbers = Column("income", True, np.array([198726.0, 0.123456, np.nan]))
        assert [numbers.text(row) for row in range(3)] == ["198726", "0.1235", "missing"]

    def test_names_of_columns_are_texts(self, text):
        assert "town&lt;/script&gt;&lt;b&gt;" in text
        assert "town</script><b>" not in text

    def test_it_says_what_the_model_says(self, model, text):
        best = f"their objective on validation rows is {model.best_objective_:.4g} nats a row"
        assert f"The weights kept are of epoch {model.best_epoch_}: {best}" in text
        for note in model.notes_:
            assert note in text.replace("&#x27;", "'")
        assert f"random_state={model.seed_}" in text
        assert "hidden=(8,)" in text

    def test_the_call_that_makes_a_model_again_is_python(self):
        frame = people()[["height", "weight"]]
        model = AnomalyDetector(autoencoder=Autoencoder(1, **QUICK), trim=False, random_state=0).fit(frame)
        call = re.search("<pre><code>(.*?)[.]fit[(]X[)]</code>", model_sections.reproduce(Findings(model, frame)))[1]
        again = eval(html.unescape(call), {"Autoencoder": Autoencoder, "AnomalyDetector": AnomalyDetector})
        assert repr(again) == repr(model)

    def test_every_chart_can_be_drawn(self, text):
        charts = Page(text).charts
        assert len(charts) >= 8
        for chart in charts:
            assert vl_convert.vega_to_svg(chart | {"config": vega.common()}).startswith("<svg")

    def test_long_names_that_differ_at_their_ends_stay_apart(self):
        names = [f"a long name of a column that measures something {j}" for j in range(12)]
        drawn = vl_convert.vegalite_to_svg(charts.bars(names, {"own": [1.0] * 12}, "share") | {"width": 300})
        told = re.findall(r">(a long[^<]*)<", drawn)
        assert len(set(told)) == 12
        assert all("…" in name for name in told)

    def test_characters_that_a_picture_cannot_have_are_replaced(self):
        names = ["a\0b\x08\uffff", "c\\u0000d", 'e"\\']
        drawn = vega.compiled(charts.bars(names, {"own": [1.0] * 3}, "share"))
        told = [row["name"] for row in drawn["data"][0]["values"]]
        assert told == ["a\ufffdb\ufffd\ufffd", *names[1:]]  # the library ends the process at others
        assert set(told) <= {element.text for element in ElementTree.fromstring(vega.picture(drawn, 832)).iter()}

    def test_a_narrow_picture_has_letters_as_large_and_shorter_names(self):
        names = [f"a long name of a column that measures something {j}" for j in range(12)]
        drawn = vega.compiled(charts.bars(names, {"own": [1.0] * 12, "linear": [0.5] * 12}, "share"))
        sizes, told = {}, {}
        for name, width in vega.WIDTHS.items():
            picture = ElementTree.fromstring(vega.picture(drawn, width))
            sizes[name] = int(picture.get("width"))
            told[name] = [element.text for element in picture.iter() if (element.text or "").startswith("a long")]
            assert "font-size" not in vega.picture(drawn, width)  # page.css has one
        assert sizes == vega.WIDTHS
        assert {len(text) for text in told["broad"]} == {30}
        assert {len(text) for text in told["narrow"]} < {14, 15}
        units = vega.compiled(charts.units(np.random.default_rng(0).normal(size=(50, 8)), range(8)))
        assert [vega.at_width(units, width)["layout"]["columns"] for width in (832, 358, 100)] == [4, 2, 1]

    def test_numbers_below_a_narrow_chart_stay_apart(self):
        """A digit of 12 pixels is about 7 wide; a browser's may be wider, so there are 4 and more between numbers."""
        drawn = vega.compiled(charts.spectrum(np.random.default_rng(0).uniform(size=(20, 21))))
        picture = ElementTree.fromstring(vega.picture(drawn, vega.WIDTHS["narrow"]))
        below = [each for each in picture.iter() if each.get("text-anchor") == "middle" and each.text.isdigit()]
        told = {int(each.text): numbers_in(each.get("transform"))[0] for each in below if each.get("opacity") != "0"}
        assert {1, 3} <= set(told)
        ends = [(at - 3.5 * len(str(n)), at + 3.5 * len(str(n))) for n, at in sorted(told.items())]
        assert min(begin - end for (_, end), (begin, _) in itertools.pairwise(ends)) >= 4

    @staticmethod
    def areas_of(text):
        """Each area of a picture and its colour, in hexadecimal digits."""
        drawn = re.findall(r'<path [^>]*?d="([^"]*)"[^>]*? fill="([^"]*)"', text)
        areas = [(area, fill) for path, fill in drawn for area in re.findall("M[^M]+", path) if "url" not in fill]
        return [
            (area, "#" + bytes(map(int, numbers_in(fill))).hex() if "rgb" in fill else fill) for area, fill in areas
        ]

    def test_a_picture_is_shorter_and_draws_the_same(self):
        drawn = vega.compiled(
            charts.heatmap(list("abc"), range(4), np.random.default_rng(0).random((3, 4)), "m", False)
        )
        whole, short = vl_convert.vega_to_svg(vega.at_width(drawn, 832)), vega.picture(drawn, 832)
        assert len(short) < 0.6 * len(whole)
        cells = [sorted(self.areas_of(text)) for text in (whole, short)]
        assert len(cells[0]) == len(cells[1]) >= 12
        assert [fill for _, fill in cells[0]] == [fill for _, fill in cells[1]]
        for long, brief in zip(*cells, strict=True):
            assert numbers_in(brief[0]) == pytest.approx(numbers_in(long[0]), abs=0.005)
        told = [sorted(filter(None, (e.text for e in ElementTree.fromstring(text).iter()))) for text in (whole, short)]
        assert told[0] == told[1]

    def test_pictures_have_the_pages_colours_and_are_what_is_printed(self, text):
        pictures = re.findall(r'<div class="still \w+">(<svg.*?</svg>)</div>', text)
        assert len(pictures) == 2 * len(Page(text).charts)
        colours = set(re.findall(r"var\(--\w+\)", "".join(pictures)))
        assert {"var(--ink)", "var(--line)", "var(--c0)"} <= colours
        for name in colours:
            assert len(re.findall(rf"\s{name[4:-1]}: #", text)) == 2, "each colour is there for light and for dark"
        names = [name for picture in pictures for name in re.findall(r' id="([^"]+)"', picture)]
        used = [name for picture in pictures for name in re.findall(r"url\(#([^)]+)\)", picture)]
        assert set(names) == set(used) != set()
        assert len(set(names)) == len(names), "a name on a page is that of one element"
        assert not [name for name in names if name.startswith(("gradient_", "clip"))], "Vega has these in a browser"
        printed = re.search(r"@media print \{(.*?)\n\}", text, re.DOTALL)[1]
        assert ".chart > .live { display: none; }" in printed
        assert ".chart > .still:is(div, picture):not(.narrow) { display: block; }" in printed

    def test_the_first_map_can_be_read_in_both_schemes(self, text):
        """Each picture in pixels has the ink of its scheme, dark on white or light on black; paper is white."""

        def brightness(colour):  # as WCAG 2.2 defines relative luminance
            values = np.asarray(colour) / 255
            linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
            return linear @ [0.2126, 0.7152, 0.0722]

        found = re.search(r'<picture class="still">(.*?)</picture>', text, re.DOTALL)[1]
        pictures = re.findall(r'(?:media="([^"]*)" srcset|src)="data:image/webp;base64,([^"]*)"', found)
        assert ["dark" in media for media, _ in pictures] == [True, False, True, False]
        assert ["max-width" in media for media, _ in pictures] == [True, True, False, False]
        assert pictures[-1][0] == "", "what is printed is the one for white paper"
        assert all("screen" in media for media, _ in pictures[:-1])
        for media, content in pictures:
            colours = vega.colours("dark" if "dark" in media else "light")
            ink, paper = (np.array(ImageColor.getrgb(colours[name])) for name in ("--ink", "--paper"))
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)
            strip = pixels[-pixels.shape[0] // 12 :, :, :].reshape(-1, 4)  # the title of the lower axis
            letters = strip[strip[:, 3] > 240][:, :3]
            assert (np.abs(letters - ink).max(1) < 24).sum() > 30
            low, high = sorted([brightness(ink), brightness(paper)])
            assert (high + 0.05) / (low + 0.05) > 7

    def test_p_values_that_are_alarms_are_in_bars_left_of_the_rate(self):
        p = np.array([1, 2, 3, 3, 4, 60]) / 60
        bars = charts.shares(p, "p-value", 0.05)["data"]["values"]
        assert sum(bar["n"] for bar in bars) == 6
        assert sum(bar["n"] for bar in bars if bar["to"] <= 0.05) == 4
        assert all(bar["to"] <= 0.05 or bar["from"] >= 0.05 for bar in bars)

    def test_the_card_counts_columns_that_are_left_out(self):
        frame = people().assign(name=[f"Jo Doe {number}" for number in range(N)])
        fitted = Autoencoder(2, **QUICK).fit(frame)
        assert "components of 7 columns, of which 1 is left out" in card(fitted)
        facts = description({**summary(fitted), "version": "1"})
        assert facts["code size"] == "2, from 7 columns, of which 1 is left out"

    def test_components_are_drawn_in_their_order(self):
        facet = charts.units(np.random.default_rng(0).normal(size=(50, 11)), range(11))
        vega = vl_convert.vegalite_to_vega(facet)
        names = json.dumps(vega["data"])
        assert facet["facet"]["sort"] == [f"component {j}" for j in range(1, 12)]
        assert "facet_component_sort_index" in names

    @pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
    def test_a_detector_says_its_alarms(self, undrawn):
        X = people()[["height", "weight", "visits"]].dropna()
        detector = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1), random_state=0).fit(X[:200])
        odd = X.copy()
        odd.iloc[-1, 0] = 999.0
        text = page(detector, odd)
        n = int((detector.predict(odd) < 0).sum())
        assert f"{n} of {len(odd)} rows" in text
        assert detector.guarantee_ in text
        first = re.search(r"The most unusual rows.*?<tbody><tr>(.*?)</tr>", text, re.DOTALL)[1]
        assert re.findall("<td>(.*?)</td>", first)[:4] == [f"row {X.index[-1]}", *first_reason(detector, odd)]

    @pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
    def test_a_detector_draws_rows_and_stays_as_it_is(self):
        X = people()[["height", "weight", "visits"]].dropna()
        detector = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1), random_state=0).fit(X)
        found = Findings(detector, X)
        assert len(found.drawn[0]) == 16
        assert getattr(detector.autoencoder_, "mixture_", None) is None

    def test_predictions_are_compared_with_labels(self):
        rng = np.random.default_rng(0)
        X = pd.DataFrame(rng.normal(size=(300, 3)), columns=list("abc"))
        y = np.where(X["a"] + 0.5 * rng.normal(size=300) > 0, "high<", "low")
        autoencoder = Autoencoder(2, **QUICK)
        model = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=3, random_state=0).fit(X, y)
        section = sections.predictions(Findings(model, X, y))
        assert f"{100 * model.score(X, y):.0f} % of the predicted classes are right" in section
        wrong = int(((y == "low") & (model.predict(X) == "high<")).sum())
        assert str(wrong) in re.findall(r"<td>(\d+)</td>", section)
        assert "high&lt;" in section
        assert sections.predictions(Findings(model, X, pd.DataFrame({"y": y}))) == section
        with pytest.raises(DataError, match="one label for each row"):
            Findings(model, X, y[:10])
        with pytest.raises(DataError, match="y has gaps. Got 1"):
            Findings(model, X, [None, *y[1:]])
        assert "No labels" in sections.predictions(Findings(model, X))
        assert sections.predictions(Findings(autoencoder.fit(X), X, y)) == ""

    def test_classes_are_equal_though_one_is_a_float(self):
        X = np.random.default_rng(0).normal(size=(300, 3))
        y = (X[:, 0] > 0).astype(int)
        model = AutoencoderClassifier(autoencoder=Autoencoder(2, **QUICK), max_epochs=3, random_state=0).fit(X, y)
        says = f"{percent(model.score(X, y))} of the predicted classes are right"
        assert says in sections.predictions(Findings(model, X, y.astype(float)))

    def test_predicted_numbers_are_drawn_against_those_observed(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 3))
        y = 2 * X[:, 0] + 0.5 * rng.normal(size=300)
        model = AutoencoderRegressor(autoencoder=Autoencoder(2, **QUICK), max_epochs=3, random_state=0).fit(X, y)
        section = sections.predictions(Findings(model, X, y))
        assert f"explain {100 * max(model.score(X, y), -9):.0f} % of the variance" in section
        points = json.loads(re.search(r'<script type="application/json">(.*?)</script>', section)[1])
        assert len(points["data"][0]["values"]) == 300

    def test_each_of_several_targets_is_drawn(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(300, 3))
        Y = np.column_stack([2 * X[:, 0], rng.normal(size=300)])
        model = AutoencoderRegressor(autoencoder=Autoencoder(2, **QUICK), max_epochs=3, random_state=0).fit(X, Y)
        section = sections.predictions(Findings(model, X, Y))
        assert "Target 2 of 2" in section
        observed = [point["observed"] for point in charts_of(section)[1]["data"][0]["values"]]
        np.testing.assert_allclose(np.sort(observed), np.sort(Y[:, 1]), rtol=1e-4)

    def test_windows_are_rows_with_those_before_them(self, undrawn):
        t = np.arange(400)
        X = np.column_stack([np.sin(t / 5), np.cos(t / 5)]) + 0.1 * np.random.default_rng(0).normal(size=(400, 2))
        detector = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(2), window=4, random_state=0).fit(X)
        assert "of 400 rows" in page(detector, X)


@pytest.fixture
def large(monkeypatch):
    """All rows count as many."""
    monkeypatch.setattr("eigencode.data.named_files.STREAMED_FROM", 1)


class TestRows:
    """Rows from anywhere."""

    def test_rows_of_files_have_their_numbers_in_the_table(self, tmp_path, large, monkeypatch):
        monkeypatch.setattr("eigencode.data.block_sources.SAMPLE_ROWS", 20)
        pq.write_table(pa.table({"a": np.arange(400.0), "b": -np.arange(400.0)}), tmp_path / "rows.parquet", 100)
        found = Findings(LinearAutoencoder(1).fit(tmp_path / "rows.parquet"), tmp_path / "rows.parquet")
        assert found.n_given == 400
        assert [float(label) for label in found.labels] == found.given[0].values.tolist()
        assert found.labels[5:7] == ["100", "101"]

    @pytest.mark.versions
    def test_sparse_rows_are_measured_as_dense_ones(self, large):
        X = np.where(COUNTS < 0.5, 0, COUNTS)
        model = LinearAutoencoder(2).fit(X)
        assert Findings(model, scipy.sparse.csr_array(X)).fingerprint == Findings(model, X).fingerprint

    def test_rows_that_can_be_read_once_are_refused(self, large):
        with pytest.raises(DataError, match="needs rows that can be read again"):
            Findings(LinearAutoencoder(2).fit(COUNTS), iter([COUNTS, COUNTS]))

    def test_ranked_labels_are_labels(self, undrawn):
        names = [f"g{number:03d}" for number in range(80)]
        rows = pd.DataFrame({"z": COUNTS[:, 0], "y": COUNTS[:, 1]})
        order = pd.cut(COUNTS[:, 0], 80, labels=names)
        model = Autoencoder(2, **QUICK).fit(rows.assign(rank=order))
        assert model.columns_.columns[2].kind.kind == "ranked"
        found = Findings(model, rows.assign(rank=order))
        assert found.given[2].text(0) == str(order[0])
        assert "rank" in page(model, rows.assign(rank=order))


def numbers_in(text):
    """The numbers of a text."""
    return tuple(map(float, re.findall(r"-?[0-9.]+", text)))


def charts_of(section):
    """The specifications of a section's charts."""
    return [json.loads(each) for each in re.findall(r'<script type="application/json">(.*?)</script>', section)]


class TestImages:
    """Rows that are images, though the model was fitted to columns."""

    @pytest.mark.versions
    def test_columns_named_as_the_pixels_of_a_square_are_images(self):
        frame = load_digits(as_frame=True).data[:100]
        found = Findings(LinearAutoencoder(2).fit(frame), frame)
        assert found.image_shape == (1, 8, 8)
        assert "Images (first line)" in sections.reconstructions(found)
        shown = sections.pixels(found, found.rows)
        np.testing.assert_allclose(shown, np.asarray(frame).reshape(-1, 8, 8) / 16 * 255, atol=0.51)
        renamed = frame.rename(columns={"pixel_0_0": "age"})
        assert not Findings(LinearAutoencoder(2).fit(renamed), renamed).is_image

    def test_how_to_see_numbers_as_images_is_said(self):
        rows = DIGITS.reshape(-1, 64)
        assert "image_shape=(1, 8, 8)" in sections.finding(Findings(LinearAutoencoder(2).fit(rows), rows))
        assert "image_shape" not in sections.finding(Findings(LinearAutoencoder(2).fit(rows[:, :60]), rows[:, :60]))


def first_reason(detector, X):
    """The p-value, column and value of the most unusual row, as a page has them."""
    row = int(np.argmin(detector.score_samples(X)))
    because = detector.explain(X, n_columns=1, output="records")[row]["reasons"][0]
    return [f"{detector.p_values(X)[row]:.3g}", because["column"], f"{because['observed']:.4g}"]


class TestFindings:
    def test_errors_by_column_are_those_of_the_reconstructions(self, found, model):
        rows, rebuilt = people(), model.reconstruct(people())
        by_name = {column.name: column for column in found.by_column}
        height = rows["height"]
        expected = 1 - np.mean((height - rebuilt["height"]) ** 2) / np.var(height)
        assert by_name["height"].explained == pytest.approx(expected, rel=1e-5)
        known = rows["town</script><b>"].notna()
        right = (rows["town</script><b>"] == rebuilt["town</script><b>"])[known].mean()
        town = by_name["town</script><b>"]
        assert town.explained == pytest.approx(right)
        assert town.missing == pytest.approx(1 - known.mean())
        assert town.usual == pytest.approx(rows["town</script><b>"].value_counts(normalize=True).iloc[0])

    @pytest.mark.parametrize("form", [pd.DataFrame, pd.DataFrame.to_numpy], ids=["frame", "array"])
    def test_values_that_stand_for_gaps_are_gaps(self, form):
        rng = np.random.default_rng(0)
        z = rng.normal(size=200)
        rows = pd.DataFrame({"a": z, "b": 2 * z, "c": z + 0.1 * rng.normal(size=200)})
        gaps = rng.random(rows.shape) < 0.1
        with_nan, marked = form(rows.mask(gaps)), form(rows.mask(gaps, -999.0))
        of_nan = Findings(Autoencoder(1, **QUICK).fit(with_nan), with_nan)
        of_marked = Findings(Autoencoder(1, missing_values=-999, **QUICK).fit(marked), marked)
        assert list(map(repr, of_marked.by_column)) == list(map(repr, of_nan.by_column))
        assert of_marked.by_column[0].missing == pytest.approx(gaps[:, 0].mean())
        assert of_marked.filling == of_nan.filling

    def test_effects_are_movements_of_the_decoder(self, found, model):
        spread, center = found.codes.std(0), found.codes.mean(0)
        for j in range(2):
            ends = np.stack([center, center])
            ends[:, j] += [-spread[j], spread[j]]
            low, high = model.inverse_transform(ends)["height"]
            assert found.effects[0, j] == pytest.approx(abs(high - low) / people()["height"].std(ddof=0), rel=1e-4)

    def test_correlations_are_those_of_numpy(self, found):
        known = people()["weight"].notna().to_numpy()
        expected = np.corrcoef(people()["weight"][known], found.codes[known, 1])[0, 1]
        assert found.correlations[1, 1] == pytest.approx(expected)

    def test_hidden_cells_are_filled_better_than_by_the_mean_where_columns_go_together(self, found):
        by_name = {name: (own, usual) for name, own, usual in found.filling}
        own, usual = by_name["height"]
        assert own < 0.8 * usual
        assert usual == pytest.approx(1.0, abs=0.4)  # the mean is one standard deviation away: 30 cells, 3 errors

    def test_the_worst_row_is_the_one_that_was_made_so(self, model):
        rows = people()
        rows.loc[17, "height"] = 400.0
        found = Findings(model, rows)
        assert found.labels[found.worst[0]] == "17"
        assert found.given[found.suspects(found.worst[0])[0]].name == "height"

    def test_the_errors_of_columns_add_up_to_those_of_rows(self, found):
        """Of numbers, dates, counts, labels and gaps; of counts in an array, which are rebuilt in their own units."""
        np.testing.assert_allclose(found.errors_by_column.sum(1), found.errors, rtol=1e-4)
        assert (found.errors_by_column[people()["weight"].isna(), 1] == 0).all()
        counts = np.random.default_rng(0).poisson([1.0, 5.0, 9.0], size=(80, 3)).astype(float)
        of_counts = Findings(Autoencoder(1, likelihood="poisson", **QUICK).fit(counts), counts)
        np.testing.assert_allclose(of_counts.errors_by_column.sum(1), of_counts.errors, rtol=1e-4)
        row = int(of_counts.worst[0])
        sizes = of_counts.errors_by_column[row]
        listed = [column for column in range(3) if sizes[column] >= 0.01 * of_counts.errors[row]]
        assert of_counts.suspects(row) == sorted(listed, key=lambda column: -sizes[column])

    def test_pca_gives_the_errors_by_size(self):
        X = np.random.default_rng(0).normal(size=(100, 4)) * [1, 2, 3, 4]
        linear = LinearAutoencoder(2).fit(X)
        errors, _ = Findings(linear, X).by_size
        assert errors[2] == pytest.approx(linear.reconstruction_error(X, scaled=True).mean(), rel=1e-5)
        assert errors[4] == pytest.approx(0, abs=1e-9)

    def test_labels_have_their_probability(self, found, model):
        town, member = 2, 3
        given, kinds = people(), model.columns_.columns
        names = list(kinds[town].kind.labels)
        p = found.expected_cells
        row = int(np.flatnonzero(given["town</script><b>"].notna())[0])
        first = kinds[0].kind.width + kinds[1].kind.width
        cell = first + names.index(given["town</script><b>"][row])
        assert found.chance(town, row) == pytest.approx(p[row, cell])
        is_member = p[row, first + len(names) + 1]
        assert found.chance(member, row) == pytest.approx(is_member if given["member"][row] else 1 - is_member)
        assert found.chance(0, row) is None
        assert (found.chance(town, row) > 0.5) == (found.expected[town].values[row] == given.iloc[row, town])

    def test_the_terms_add_up_to_the_objective(self):
        X = np.random.default_rng(0).normal(size=(100, 4))
        model = ContractiveAutoencoder(2, validation_fraction=0, **QUICK).fit(X)
        terms = Findings(model, X).terms
        assert list(terms) == ["reconstruction", "Contractive"]
        assert sum(terms.values()) == pytest.approx(model.best_objective_, rel=1e-5)
        section = model_sections.training(Findings(model, X))
        assert f"<td>Contractive</td><td>{terms['Contractive']:.4g}</td>" in section

    def test_each_term_is_drawn_beside_its_value_at_the_weights_kept(self):
        X = np.random.default_rng(0).normal(size=(200, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
        model = VariationalAutoencoder(2, max_epochs=4, hidden=(8,), random_state=0).fit(X)
        section = model_sections.training(Findings(model, X))
        best = next(row for row in model.history_ if row["validation_objective"] == model.best_objective_)
        for name in ("reconstruction", "divergence"):
            assert f"{name} {best[f'validation_{name}']:.4g}" in section
        drawn = charts_of(section)[1]["data"][0]["values"]
        expected = [row["validation_divergence"] - best["validation_divergence"] for row in model.history_]
        assert [p["value"] for p in drawn if p["term"] == "divergence"] == pytest.approx(expected, rel=1e-4, abs=1e-9)
        model = Autoencoder(2, **QUICK).fit(X)
        assert len(charts_of(model_sections.training(Findings(model, X)))) == 1

    def test_rows_that_were_fitted_are_said_to_be(self, model):
        says, not_so = "These are the rows that it was fitted to", "These are not the rows that it was fitted to"
        assert says in sections.finding(Findings(model, people()))
        assert says in sections.finding(Findings(model, people()[::-1]))
        assert not_so in sections.finding(Findings(model, people()[1:]))
        for options in ({}, {"scale": "none"}):
            counts = LinearAutoencoder(1, **options).fit(COUNTS)
            assert says in sections.finding(Findings(counts, COUNTS))
            assert says in sections.finding(Findings(counts, COUNTS.astype(np.float32)))
            assert not_so in sections.finding(Findings(counts, COUNTS + 0.01))
        flattered = "PCA is fitted to the rows of this page, and the model is not"
        assert flattered in model_sections.sizes(Findings(model, people()[1:]))
        assert flattered not in model_sections.sizes(Findings(model, people()))
        changed = Autoencoder(1, **QUICK).fit(COUNTS).partial_fit(COUNTS[:50])
        assert "is not known" in sections.finding(Findings(changed, COUNTS))

    def test_the_number_of_the_first_row_is_said(self, model):
        says, rows = "The first row is row 0.", people()
        assert says in sections.finding(Findings(model, rows))
        assert says not in sections.finding(Findings(model, rows.set_index(rows.index + 1)))

    def test_rows_that_were_fitted_are_known_among_more_than_are_measured(self, monkeypatch, tmp_path):
        counts = LinearAutoencoder(1).fit(COUNTS, np.arange(1.0, 201.0))
        counts.save(tmp_path / "m.safetensors")
        monkeypatch.setattr(findings, "MOST_ROWS", 30)
        saved = load(tmp_path / "m.safetensors")
        assert Findings(saved, COUNTS[::-1]).are_those_fitted is True
        assert Findings(saved, COUNTS[1:]).are_those_fitted is False

    @pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
    def test_fitted_rows_flatter_a_detector_and_it_is_said(self):
        rows, says = people(), "The detector was fitted to these rows"
        for options in ({"false_alarms": 0.1}, {"false_alarms": 0.01}, {"false_alarms": 0.1, "window": 3}):
            own = COUNTS if "window" in options else rows
            detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0, **options).fit(own)
            assert says in sections.alarms(Findings(detector, own))
            assert says not in sections.alarms(Findings(detector, own[3:]))

    def test_rows_that_have_changed_since_the_fit_are_said_to_have(self, recwarn):
        rows, says = np.random.default_rng(0).normal(size=(600, 4)), "score otherwise than those held out of the fit"
        detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(rows[:400])
        assert says in sections.alarms(Findings(detector, rows[400:] + 3))
        assert says not in sections.alarms(Findings(detector, rows[400:]))
        assert says not in sections.alarms(Findings(detector, rows[:400]))
        assert not recwarn.list

    def test_rows_that_were_fitted_are_not_asked_whether_they_have_changed(self, monkeypatch):
        def always(self, p_values, anomalies=0.0):
            warnings.warn("These rows have changed.", ResultWarning, stacklevel=2)

        rows = np.random.default_rng(0).normal(size=(200, 4))
        detector = AnomalyDetector(autoencoder=LinearAutoencoder(1), random_state=0).fit(rows)
        monkeypatch.setattr(AnomalyDetector, "drift_from", always)
        assert "have changed" in sections.alarms(Findings(detector, rows[3:]))
        assert "have changed" not in sections.alarms(Findings(detector, rows))

    def test_fitted_rows_flatter_predictions_and_it_is_said(self):
        y, says = COUNTS[:, 0] > 0.5, "The model was fitted to these rows"
        for autoencoder in (Autoencoder(2, **QUICK), Autoencoder(2, **QUICK).fit(COUNTS[:50])):
            single = AutoencoderClassifier(autoencoder=autoencoder, max_epochs=2, random_state=0).fit(COUNTS, y)
            assert says in sections.predictions(Findings(single, COUNTS, y))
            assert says not in sections.predictions(Findings(single, COUNTS[1:], y[1:]))

    def test_one_row_has_a_plane(self, model):
        for n_components in (1, 2, 3):
            single = Autoencoder(n_components, **QUICK).fit(COUNTS)
            text = page(single, COUNTS[:1])
            assert "This page shows 1 row." in text
            assert "never change" not in text
            assert "a slider would have no range" in text
            assert "<tbody></tbody>" not in text
        plane, names = plane_of(np.ones((1, 3)))
        assert plane.tolist() == [[0.0, 0.0]]
        assert len(names) == 2

    def test_an_objective_that_is_no_smaller_is_not_called_worth_it(self):
        single = Autoencoder(2, **QUICK).fit(COUNTS)
        found = Findings(single, COUNTS)
        found.errors = 0.5 * found.linear_errors
        for level, is_worth_it in ((single.best_objective_ + 1, True), (single.best_objective_, False)):
            single.baseline_.history_[0]["validation_objective"] = level
            says = sections.finding(found)
            assert ("so the nonlinear part was worth it" in says) == is_worth_it
            assert ("its objective, which was trained, is no smaller" in says) != is_worth_it

    def test_columns_of_the_map_have_names_of_their_own(self):
        frame = pd.DataFrame(COUNTS[:, :3], columns=["row", "error", "x"])
        drawn = sections.code_map(Findings(Autoencoder(2, **QUICK).fit(frame), frame))
        told = json.loads(re.search(r'id="map-data">(.*?)</script>', drawn)[1])
        assert [column["name"] for column in told["columns"]] == ["error", "row (column)", "error (column)", "x"]

    def test_decoded_columns_have_the_names_of_the_frame(self):
        single = Autoencoder(1, **QUICK).fit(pd.DataFrame(COUNTS, columns=[58, 59, 60, 61, 62]))
        assert live.steps(single)["columns"] == ["58", "59", "60", "61", "62"]

    def test_a_table_says_how_many_columns_it_has(self):
        wide = np.random.default_rng(0).random((50, 20))
        found = Findings(LinearAutoencoder(2).fit(wide), wide)
        for section in (sections.reconstructions, sections.samples):
            assert "; the first 8 of 20 columns" in section(found)
            names = re.findall('<th scope="col">(.*?)</th>', section(found))
            assert [name for name in names if name != "row"] == [column.name for column in found.given[:8]]
        found = Findings(LinearAutoencoder(2).fit(COUNTS), COUNTS)
        assert "the first" not in sections.reconstructions(found) + sections.samples(found)

    def test_numbers_that_are_0_and_1_are_decoded_as_such(self):
        frame = pd.DataFrame({"whole": (COUNTS[:, 0] > 0.5).astype(int), "logical": COUNTS[:, 1] > 0.5})
        labels = live.steps(Autoencoder(1, **QUICK).fit(frame))["labels"]
        assert labels == {"whole": ["0", "1"]}

    def test_dates_are_told_from_times(self):
        days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(200) * 7 % 199, unit="D")
        frame = pd.DataFrame({"born": days, "seen": days + pd.Timedelta("10:30:00"), "x": COUNTS[:, 0]})
        assert live.steps(Autoencoder(1, **QUICK).fit(frame))["kinds"][:2] == ["date", "time"]

    def test_components_that_never_change_are_dead(self):
        X = np.random.default_rng(0).normal(size=(200, 3))
        sparse = Autoencoder(2, **QUICK).fit(X)
        found = Findings(sparse, X)
        found.codes[:, 1] = 0.5
        assert found.dead.tolist() == [False, True]
        assert found.ranked.tolist() == [0]


TABLES = {
    "table": (lambda: Autoencoder(2, **QUICK), people),
    "counts": (lambda: Autoencoder(2, likelihood="poisson", **QUICK), lambda: np.round(100 * COUNTS)),
    "linear": (lambda: LinearAutoencoder(2), lambda: COUNTS),
    "tied": (lambda: Autoencoder(2, tied=True, **QUICK), lambda: COUNTS),
    "shares": (lambda: Autoencoder(2, likelihood="bernoulli", **QUICK), lambda: COUNTS),
    "variational": (lambda: VariationalAutoencoder(2, **QUICK), lambda: COUNTS),
    "sparse": (lambda: SparseAutoencoder(6, max_epochs=2, random_state=0), lambda: COUNTS),
    "stacked": (lambda: StackedAutoencoder(2, max_epochs=2, random_state=0), lambda: COUNTS),
    "images": (
        lambda: Autoencoder(2, max_epochs=1, image_shape="auto", random_state=0),
        lambda: load_digits().images[:200],
    ),
    "cities": (lambda: Autoencoder(2, **QUICK), lambda: pd.DataFrame({"city": CITIES, "z": COUNTS[:, 0]})),
}
COUNTS = np.random.default_rng(0).random((200, 5))
DIGITS = load_digits().images[:200]
CITIES = [f"c{number:.0f}" for number in COUNTS[:, 0] * 40]
QUICK_ONES = ("table",)

DECODE = """
const {decoderOf} = require(process.argv[1]);
const given = JSON.parse(require("fs").readFileSync(0)), decode = decoderOf(given.live);
console.log(JSON.stringify(given.codes.map(code => Array.from(decode(code)))));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_page_shows_dates_without_a_time_of_the_day():
    show = "console.log([[0, true], [-86400, true], [37800, false], [37805.2, false], [1e300, true]].map("
    show += "([s, isDate]) => require(process.argv[1]).timeText(s, isDate)).join())"
    answer = subprocess.run(["node", "-e", show, str(HERE / "live.js")], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "1970-01-01,1969-12-31,1970-01-01 10:30,1970-01-01 10:30:05,+275760-09-13"


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK_ONES else pytest.mark.slow) for n in TABLES])
def test_the_page_decodes_as_the_model_does(name):
    make, rows = TABLES[name]
    model = make().fit(rows())
    graph = graph_of(model, "inverse_transform")
    codes = graph.example()[:20].astype(np.float64)
    given = json.dumps({"live": live.steps(model), "codes": codes.tolist()})
    program = ["node", "-e", DECODE, str(HERE / "live.js")]
    answer = subprocess.run(program, input=given, capture_output=True, text=True, check=True, timeout=60).stdout
    decoded, expected = np.array(json.loads(answer), dtype=np.float64), graph.expected("inverse_transform", codes)
    assert np.abs((decoded - expected) / np.maximum(expected.std(0), 1e-9)).max() < 1e-4


@pytest.mark.draws_globally  # torch's layers
def test_a_decoder_that_the_page_does_not_know_is_said(undrawn):
    import torch

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 5)

        def forward(self, z):
            return torch.special.bessel_j0(self.layer(z))

    model = Autoencoder(2, decoder=Odd(), max_epochs=0, random_state=0).fit(COUNTS)
    with pytest.raises(live.NotLiveError, match="bessel"):
        live.steps(model)
    assert "cannot decode codes of this model" in page(model, COUNTS)


def test_a_decoder_that_is_too_large_is_said(model, monkeypatch):
    monkeypatch.setattr(live, "MOST_NUMBERS", 10)
    with pytest.raises(live.NotLiveError, match="at most 10"):
        live.steps(model)


def test_what_cannot_be_written_is_refused(model, tmp_path, monkeypatch):
    with pytest.raises(FileError, match=r"'\.html', '\.htm'"):
        model.report(people(), tmp_path / "r.pdf")
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    monkeypatch.setattr("eigencode.report.page.Findings", None)  # it is said before any work
    with pytest.raises(OptionError, match=r"eigencode\[report\]"):
        model.report(people(), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "left", "says"),
    [
        ("RLIMIT_AS", 4e9, "needs addresses for 68.7 GB, .* Got 4.0 GB left by the limit of ulimit -v. Make the page"),
        (
            "RLIMIT_DATA",
            6e8,
            "needs addresses for 1.0 GB, .* Got 600.0 MB left by the limit of ulimit -d. Make the page",
        ),
    ],
)
def test_charts_are_refused_where_their_library_would_end_the_process(name, left, says, monkeypatch):
    """It reserves 64 GiB of addresses, and a limit of ``ulimit -v`` is no error that it could raise."""
    if name not in memory.SHELLS:
        pytest.skip("a limit of Linux")
    monkeypatch.setattr(memory, "_left_under", lambda limit: left if limit == name else math.inf)
    vega.require_library()  # it has its addresses already
    monkeypatch.delitem(sys.modules, "vl_convert")
    with pytest.raises(DataError, match=f"Drawing charts {says}"):
        vega.require_library()


def test_the_command_writes_a_page(model, tmp_path, monkeypatch, capsys):
    from eigencode.cli import main

    monkeypatch.chdir(tmp_path)
    model.save("m.safetensors")
    people().to_parquet("people.parquet")
    assert main(["report", "m.safetensors", "people.parquet", "--output", "r.html"]) == 0
    assert "r.html" in capsys.readouterr().out
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    assert main(["report", "m.safetensors", "people.parquet", "--output", "r.txt"]) == 1


def test_the_command_tells_the_notes_in_the_words_of_the_shell(tmp_path, monkeypatch, undrawn):
    from eigencode.cli import main

    monkeypatch.chdir(tmp_path)
    model = Autoencoder(2, **QUICK).fit(people())
    model.notes_.append("stopped by max_seconds after 200 rows; try a larger max_seconds")
    model.save("m.safetensors")
    people().to_parquet("people.parquet")
    assert main(["report", "m.safetensors", "people.parquet", "--output", "r.html"]) == 0
    assert (
        "<li>stopped by <code>--max-seconds</code> after 200 rows; try a larger <code>--max-seconds</code></li>"
        in (tmp_path / "r.html").read_text()
    )
    assert "<li>stopped by max_seconds after 200 rows; try a larger max_seconds</li>" in page(model, people())


@pytest.mark.versions
@pytest.mark.parametrize("is_fitted_as_frame", [True, False])
@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_an_array_is_reported_as_a_frame_of_the_same_rows(is_fitted_as_frame, tmp_path, undrawn):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 3)), columns=["a", "b", "c"]).assign(d=rng.integers(0, 2, 60))
    frame.loc[::7, "b"] = np.nan
    array = frame.to_numpy(float)
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(frame if is_fitted_as_frame else array)
    of_frame, of_array = Findings(model, frame), Findings(model, array)
    assert [column.name for column in of_frame.given] == ["a", "b", "c", "d"]
    for name in ("explained", "usual", "linear", "missing", "is_number"):
        own, other = ([getattr(column, name) for column in each.by_column] for each in (of_frame, of_array))
        np.testing.assert_array_equal(own, other)
    assert [each[1:] for each in of_frame.filling] == [each[1:] for each in of_array.filling]
    assert of_array.are_those_fitted
    assert "<h2" in page(model, array if is_fitted_as_frame else frame)
    with pytest.raises(DataError):
        model.report(array[:, :3], tmp_path / "other.html")


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

ASK = """
<script>
const told = {errors: []};
window.addEventListener("error", event => told.errors.push(event.message));
window.addEventListener("unhandledrejection", event => told.errors.push(String(event.reason)));
const wait = ms => new Promise(done => setTimeout(done, ms));
const until = async isSo => { for (let i = 0; i < 1000 && !isSo(); i++) await wait(50); };
const charts = () => [...document.querySelectorAll(".chart")];
const nDrawn = () => charts().filter(chart => chart.querySelector(".live svg")).length;
const isShown = element => element.offsetHeight > 20 && element.offsetWidth > 100;
const nStill = () => charts().filter(chart => [...chart.querySelectorAll(".still :is(svg, img)")].some(
  picture => picture.getBoundingClientRect().height > 20)).length;
window.addEventListener("load", async () => {
  told.places = charts().length;
  told.pictures = nStill();
  const widthOf = svg => svg.getBoundingClientRect().width, shown = document.querySelectorAll(".still svg");
  told.letters = Math.min(...[...shown].filter(widthOf).map(svg => 12 * widthOf(svg) / svg.width.baseVal.value));
  const heights = charts().map(chart => chart.offsetHeight);
  await wait(500);
  told.asleep = nDrawn() === 0 && !window.vega?.View;
  dispatchEvent(new Event("scroll"));
  await until(() => document.documentElement.dataset.ready);
  told.ready = document.documentElement.dataset.ready;
  told.early = nDrawn();
  for (const chart of charts()) {
    chart.scrollIntoView({behavior: "instant"});
    await until(() => chart.querySelector(".live svg"));
  }
  await until(() => charts().every(chart => !chart.style.minHeight));
  told.charts = charts().filter(chart => isShown(chart.querySelector(".live"))).length;
  told.pictures_left = nStill();
  told.jumps = charts().map((chart, i) => Math.abs(chart.offsetHeight - heights[i]));
  told.wide = document.documentElement.scrollWidth - innerWidth;
  document.getElementById("map").scrollIntoView({behavior: "instant"});
  const slider = document.querySelector("#sliders input"), before = JSON.stringify(Array.from(window.decodedRow));
  slider.value = slider.max;
  slider.dispatchEvent(new Event("input"));
  told.moved = JSON.stringify(Array.from(window.decodedRow)) !== before;
  told.row = Array.from(window.decodedRow);
  told.code = +slider.value;
  told.component = document.querySelector("#sliders label").textContent;
  const menu = document.getElementById("map-colour");
  menu.value = menu.options.length - 1;
  menu.dispatchEvent(new Event("change"));
  await wait(500);
  const svg = document.querySelector("#map .live svg"), box = svg.getBoundingClientRect();
  const event = (type, x, y) => new PointerEvent(type, {bubbles: true, clientX: x, clientY: y, view: window});
  const send = (target, type, x, y) => target.dispatchEvent(event(type, box.left + x, box.top + y));
  const point = svg.querySelector(".mark-symbol.role-mark path"), at = point.getBoundingClientRect();
  point.dispatchEvent(event("pointermove", at.left + 2, at.top + 2));
  await wait(300);
  told.hover = document.getElementById("tip").textContent;
  send(svg, "pointerdown", 60, 60);
  const right = box.width - 10, low = box.height - 60;
  for (const [x, y] of [[right, 60], [right, low], [60, low], [60, 62]]) {
    await wait(30);
    send(window, "pointermove", x, y);
  }
  await wait(100);
  send(window, "pointerup", 60, 62);
  await wait(300);
  told.chosen = document.getElementById("map-rows").value.split(", ").filter(Boolean).length;
  told.requests = performance.getEntriesByType("resource").map(each => each.name);
  await fetch(ADDRESS, {method: "POST", mode: "no-cors", body: JSON.stringify(told)});
});
</script>
"""


class Receiver(BaseHTTPRequestHandler):
    """Keeps what a page sends; in real time, since a page may draw less often than virtual time goes on."""

    told = None

    def do_POST(self):
        type(self).told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        """Nothing is written."""


def told_by_browser(page, folder, width):
    """What the questions asked in a page find in a browser."""
    receiver = type("OwnReceiver", (Receiver,), {})
    with HTTPServer(("localhost", 0), receiver) as server:
        server.timeout = 1
        ask = ASK.replace("ADDRESS", f'"http://localhost:{server.server_port}"')
        (folder / "r.html").write_text(page.replace("<body>", "<body>" + ask, 1))
        command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},1000",
                   f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0"]  # fmt: skip
        environment = {**os.environ, "HOME": str(folder)}
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen([*command, str(folder / "r.html")], stdout=log, stderr=log, env=environment) as browser,
        ):
            last = time.monotonic() + 300
            while receiver.told is None and browser.poll() is None and time.monotonic() < last:
                server.handle_request()
            browser.kill()
    assert receiver.told is not None, (folder / "log").read_text()[-2000:]
    return receiver.told


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_the_page_and_the_reader_can_ask(model, text, tmp_path, width):
    told = told_by_browser(text, tmp_path, width)
    assert told["errors"] == []
    assert not [address for address in told["requests"] if not address.startswith("data:")]
    assert told["ready"] == "true"
    assert told["asleep"], "Vega is not read before the reader acts"
    assert told["pictures"] == told["charts"] == told["places"] >= 8
    assert told["pictures_left"] == 0
    assert told["letters"] > 10, "the pictures' letters can be read"
    assert 1 <= told["early"] < told["places"]
    assert max(told["jumps"]) <= 120, "the height kept for a chart is not that of the chart"
    assert told["wide"] <= 0, "the page is wider than the screen"
    assert told["moved"]
    assert "row" in told["hover"]
    assert "height" in told["hover"]
    assert told["chosen"] > N / 2
    code = Findings(model, people()).codes.mean(0)
    code[int(re.search(r"component (\d)", told["component"])[1]) - 1] = told["code"]
    graph = graph_of(model, "inverse_transform")
    assert told["row"] == pytest.approx(graph.expected("inverse_transform", code[None])[0].tolist(), rel=1e-4)


@pytest.mark.slow
def test_a_page_of_many_rows_is_small():
    rows = np.random.default_rng(0).normal(size=(100_000, 30))
    model = LinearAutoencoder(4).fit(rows)
    assert len(page(model, rows).encode()) < 5_000_000


def test_a_page_of_one_row_speaks_of_one_row(model):
    text = page(model, people().head(1))
    assert "of 1 row, 6 columns" in text
    assert "This page shows 1 row." in text
    assert not re.search(r"\b1 (rows|columns|components|directions) ", re.sub(r"<script.*?</script>", "", text))
    assert "<td>not known</td>" in text
    assert "<td>dead</td>" not in text


def test_columns_that_are_rebuilt_equally_well_are_not_best_and_least():
    labels = pd.DataFrame({"a": ["x", "y"] * 30, "b": ["u", "v"] * 30, "c": ["p", "p", "q"] * 20})
    found = Findings(LinearAutoencoder(3, random_state=0).fit(labels), labels)
    assert {column.explained for column in found.by_column} == {1.0}
    assert "Share of the labels that are right: 100 % in each column shown." in sections.by_column(found)


def test_a_page_of_labels_begins_its_sentences_with_a_large_letter():
    labels = pd.DataFrame({"a": ["x", "y", "z"] * 20, "b": ["u", "u", "v"] * 20})
    model = Autoencoder(1, max_epochs=1, random_state=0).fit(labels)
    said = sections.finding(Findings(model, labels))
    assert "From the code alone, it gets" in said
    assert not re.search(r"\. [a-z]", said)


@pytest.mark.slow
def test_a_gap_is_missing_in_the_reasons_of_a_detector():
    detector = AnomalyDetector(random_state=0, autoencoder=Autoencoder(2, **QUICK)).fit(people())
    rows = people().assign(height=300.0, weight=np.nan)
    said = sections.alarms(Findings(detector, rows.head(40)))
    assert "<td>missing</td>" in said
    assert "<td>None</td>" not in said
    assert "<td>nan</td>" not in said


def test_the_gaps_of_a_column_are_looked_for_once():
    """Each cell that is shown asks for them."""
    column = findings.columns(people(), Autoencoder(2, max_epochs=0, random_state=0).fit(people()))[2]
    assert column.is_known is column.is_known


def test_a_traversal_has_values_that_a_column_can_have():
    """Whole numbers within the range fitted, as drawn rows have; the decoder alone leaves it."""
    z = np.random.default_rng(0).normal(size=400)
    rows = pd.DataFrame({"grade": np.clip(np.rint(2 + 1.5 * z), 1, 3).astype(int), "a": z, "b": 2 * z})
    model = LinearAutoencoder(1, random_state=0).fit(rows)
    found = Findings(model, rows)
    codes = np.outer([-2, 0, 2], found.spreads) + found.codes.mean(0)
    assert found.decoded(codes)["grade"].min() < 1 or found.decoded(codes)["grade"].max() > 3
    shown = re.findall(r"<td>grade</td>((?:<td>[^<]*</td>){5})", sections.traversals(found))
    grades = [float(cell) for line in shown for cell in re.findall(r"<td>([^<]*)</td>", line)]
    assert len(grades) == 5
    assert set(grades) == {1, 2, 3}


def test_the_page_of_a_detector_begins_with_its_alarms():
    rows = people()
    model = AnomalyDetector(random_state=0, autoencoder=Autoencoder(2, **QUICK)).fit(rows)
    found = Findings(model, rows)
    n = int((model.predict(rows) == -1).sum())
    assert re.match(rf"<p><strong>{n} of {len(rows)} rows", sections.finding(found))


def test_what_needs_the_field_comes_last():
    titles = [title for title, _ in SECTIONS.values()]
    assert [title.startswith("For specialists") for title in titles] == sorted(
        title.startswith("For specialists") for title in titles
    )
    assert sum(title.startswith("For specialists") for title in titles) == 3
