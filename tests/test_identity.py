"""Fingerprints of rows: the same for the same rows, whatever their order and type, and another for others."""

import numpy as np
import pandas as pd
import pytest

from eigencode import Autoencoder
from eigencode.data import identity
from eigencode.data.identity import fingerprint

ROWS = np.random.default_rng(0).normal(size=(300, 4))


@pytest.mark.parametrize("n_cells", [identity.CACHED_CELLS, 4 * 128], ids=["one chunk", "chunks of 128 and 44 rows"])
def test_it_is_the_sum_of_hashes_of_rows_modulo_2_64(n_cells, monkeypatch):
    monkeypatch.setattr(identity, "CACHED_CELLS", n_cells)
    keys = [int(key) | 1 for key in np.random.default_rng(0).integers(2**64, size=4, dtype=np.uint64)]
    total = 0
    for row in ROWS.astype(np.float32).view(np.uint32).tolist():
        found = sum(bits * key for bits, key in zip(row, keys, strict=True)) % 2**64
        mixed = (found ^ (found >> 32)) * int(identity.MIXED) % 2**64
        total += mixed ^ (mixed >> 32)
    assert fingerprint(ROWS) == f"{total % 2**64:016x}"


def test_order_and_type_and_kinds_of_nothing_do_not_matter():
    odd = ROWS.copy()
    odd[0, 0], odd[1, 1] = np.nan, 0.0
    other = odd[::-1].astype(np.float32, order="F")
    other[-1, 0], other[-2, 1] = -np.float32(np.nan), -0.0
    assert fingerprint(other) == fingerprint(odd)


@pytest.mark.parametrize("change", ["cell", "swapped", "fewer", "twice"])
def test_other_rows_have_another_one(change):
    others = ROWS.copy()
    if change == "cell":
        others[5, 1] = np.nextafter(np.float32(others[5, 1]), np.float32(9))
    elif change == "swapped":
        others[5, [0, 1]] = others[5, [1, 0]]
    others = others[1:] if change == "fewer" else np.concatenate([others, others]) if change == "twice" else others
    assert fingerprint(others) != fingerprint(ROWS)


def test_numbers_too_large_for_32_bits_have_one_too():
    assert fingerprint(1e300 * ROWS) == fingerprint(1e299 * ROWS) != fingerprint(ROWS)


def test_many_rows_have_none(monkeypatch):
    monkeypatch.setattr(identity, "MOST_CELLS", 1_199)
    assert fingerprint(ROWS) is None


@pytest.mark.versions
def test_frames_and_files_have_the_fingerprint_of_their_rows(tmp_path):
    frame = pd.DataFrame(ROWS, columns=list("abcd"))
    frame.to_csv(tmp_path / "rows.csv", index=False)
    quick = Autoencoder(1, max_epochs=0, random_state=0)
    found = {quick.fit(rows).fingerprint_ for rows in (ROWS, frame, tmp_path / "rows.csv")}
    assert found == {fingerprint(ROWS)}
