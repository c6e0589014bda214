"""How threads wait for each other, and work with one thread."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import astuple

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from eigencode.data.scaling import ColumnStatistics
from eigencode.data.sources import ArraySource
from eigencode.lazy import SPINS
from eigencode.model import code_priors, expectation_maximisation, fit_mixture
from eigencode.threads import in_threads, one_thread

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def answer_of(program, **variables):
    """What a program prints, to standard output and to standard error, with such variables of how threads wait."""
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | variables
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def test_waiting_threads_sleep_soon():
    _, shown = answer_of("import eigencode, torch", OMP_DISPLAY_ENV="VERBOSE")
    if "GOMP_SPINCOUNT" not in shown:
        pytest.skip("torch has another OpenMP here")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in shown


@pytest.mark.parametrize(
    ("first", "variables", "expected"),
    [
        ("", {}, str(SPINS)),
        ("", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("", {"OMP_WAIT_POLICY": "active"}, "None"),
        ("import sys; sys.modules['torch'] = sys; ", {}, "None"),
    ],
    ids=["by default", "with a number of the user's", "with a policy of the user's", "after torch"],
)
def test_a_choice_of_the_user_stays(first, variables, expected):
    program = f"{first}import os, eigencode; print(os.environ.get('GOMP_SPINCOUNT'))"
    assert answer_of(program, **variables)[0] == expected


def numbers():
    """Threads of torch, and of each library with OpenMP or BLAS: scikit-learn has both."""
    libraries = threadpool_info()
    of = {api: {each["num_threads"] for each in libraries if each["user_api"] == api} for api in ("openmp", "blas")}
    if not all(of.values()):
        pytest.skip("threadpoolctl knows no OpenMP or no BLAS here")
    return {"torch": {torch.get_num_threads()}} | of


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    with threadpool_limits(2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


TWO = {"torch": {2}, "openmp": {2}, "blas": {2}}
ONE = {"torch": {1}, "openmp": {1}, "blas": {2}}


def test_one_thread_and_the_caller_s_numbers_afterwards():
    assert numbers() == TWO
    with one_thread():
        assert numbers() == ONE
        with one_thread():
            assert numbers() == ONE
        assert numbers() == ONE
    assert numbers() == TWO
    with pytest.raises(ValueError, match="within"), one_thread():
        raise ValueError("within")
    assert numbers() == TWO


def test_no_number_of_the_whole_process_is_changed():
    """Of two that end in another order than they began, the second must not keep what the first had set."""
    within, ended = threading.Event(), threading.Event()

    def second():
        with one_thread():
            within.set()
            ended.wait()

    thread = threading.Thread(target=second)
    with one_thread():
        thread.start()
        within.wait()
    ended.set()
    thread.join()
    assert numbers() == TWO


CODES = np.where(np.random.default_rng(1).random((600, 1)) < 0.5, 4.0, -4.0) + np.random.default_rng(0).normal(
    size=(600, 2)
)


@pytest.mark.parametrize(
    ("where", "name", "fit"),
    [
        (expectation_maximisation.KMeans, "fit", lambda: fit_mixture(CODES, 0, 2)),
        (code_priors, "rough_mixture", lambda: code_priors.mixture_prior(CODES / 3, np.full(2, 0.1), 4)),
    ],
    ids=["k-means", "the mixture of a start"],
)
def test_short_pieces_of_work_have_one_thread(where, name, fit, monkeypatch):
    seen, function = [], getattr(where, name)

    def counted(*given, **named):
        seen.append(numbers())
        return function(*given, **named)

    monkeypatch.setattr(where, name, counted)
    assert fit() is not None
    assert seen
    assert all(each == ONE for each in seen)
    assert numbers() == TWO


def test_several_items_are_computed_at_a_time_and_come_in_order():
    both = threading.Barrier(2, timeout=60)  # passed only if two threads wait for it

    def tenfold(item):
        both.wait()
        return 10 * item

    assert list(in_threads(tenfold, range(6))) == [0, 10, 20, 30, 40, 50]


def test_few_items_are_made_before_they_are_used():
    made = []

    def items():
        for number in range(20):
            made.append(number)
            yield number

    for number in in_threads(abs, items()):
        assert len(made) <= number + 4  # one for each thread, one that waits, and this one


@pytest.mark.versions
def test_an_error_in_a_thread_is_the_caller_s_and_so_are_numpy_s_settings():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda number: 1 // number, [1, 0, 1]))
    zeros = [np.zeros(3)] * 4
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        list(in_threads(lambda array: 1 / array, zeros))
    with np.errstate(divide="ignore"):
        assert all(np.isinf(array).all() for array in in_threads(lambda array: 1 / array, zeros))


@pytest.mark.parametrize("call", ["in_threads(abs, [1, 2, 3])", "read_ahead(iter([1, 2, 3]))"])
def test_a_thread_goes_on_after_the_main_one_has_ended(call):
    """Pools of threads take no work then."""
    program = (
        "import threading; from concurrent.futures import ThreadPoolExecutor\n"
        "from eigencode.data.read_ahead import read_ahead; from eigencode.threads import in_threads; import torch\n"
        "def work():\n"
        "    with ThreadPoolExecutor(1) as pool:\n"
        "        try:\n"
        "            while True: pool.submit(int).result()\n"
        "        except RuntimeError: pass\n"
        f"    print(list({call}))\n"
        "torch.set_num_threads(2); threading.Thread(target=work).start()"
    )
    assert answer_of(program)[0] == "[1, 2, 3]"


def rows_of_many_sizes():
    """Columns of usual numbers, of very large and very small ones, with gaps, of nothing but gaps, and constant."""
    rows = np.random.default_rng(0).normal(3, 1, size=(50_000, 6))
    rows[:, 1] *= np.geomspace(1e-200, 1e200, len(rows))
    rows[:, 2] *= 1e-180
    rows[::3, 3] = np.nan
    rows[:, 4] = np.nan
    rows[:, 5] = 0.1
    return rows


@pytest.mark.parametrize("is_weighted", [False, True], ids=["equal weights", "weights"])
def test_statistics_of_columns_are_the_same_bits_with_any_number_of_threads(is_weighted):
    rows = rows_of_many_sizes()
    weights = np.random.default_rng(1).random(len(rows)) if is_weighted else None
    found = []
    for n_threads in (1, 2, 5):
        torch.set_num_threads(n_threads)
        found.append(astuple(ColumnStatistics.of(ArraySource(rows), weights)))
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


def test_a_reader_of_a_file_may_use_its_memory_again():
    rows = rows_of_many_sizes()[:, :3]

    class Reader:
        shape, dtype, room = rows.shape, rows.dtype, np.empty((100, 3))

        def read_chunks(self, n_rows, without):
            for first in range(0, len(rows), 100):
                self.room[:] = rows[first : first + 100]
                yield self.room

    found, expected = (ColumnStatistics.of(ArraySource(array)) for array in (Reader(), rows))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_array_equal(found.maximum, expected.maximum)


def test_the_libraries_that_k_means_has_are_known():
    program = (
        "from eigencode.model import fit_mixture; from sklearn.cluster import KMeans; import numpy as np\n"
        "from threadpoolctl import threadpool_info; fit = KMeans.fit\n"
        "def shown(*given):\n"
        "    print({each['num_threads'] for each in threadpool_info() if each['user_api'] == 'openmp'})\n"
        "    return fit(*given)\n"
        "KMeans.fit = shown; fit_mixture(np.eye(60, 2), 0, 2)"
    )
    shown, _ = answer_of(program, OMP_NUM_THREADS="2")
    assert {*shown.splitlines()} == {"{1}"}
