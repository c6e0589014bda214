"""The spectrum, however it is found, and what the linear start makes of it."""

import numpy as np
import pytest
import torch

from eigencode import Composition, Objective, starts
from eigencode.parts import MLP, GaussianNoise, GaussianWeights, Laplace
from eigencode.starts import linear_problem, linear_start, spectrum


def centred(n, d, seed=0):
    array = np.random.default_rng(seed).normal(size=(n, d)) * 0.8 ** np.arange(d)
    return torch.from_numpy(array - array.mean(0))


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 300), (3, 5), (2, 2)])
def test_the_spectrum_is_numpys_svd(n, d):
    rows = centred(n, d)
    found = spectrum(rows, None, seed=0)
    _, singular, right = np.linalg.svd(rows.numpy(), full_matrices=False)
    values = singular**2 / n
    rank = int((values > 1e-10 * values[0]).sum())
    np.testing.assert_allclose(found.eigenvalues[:rank], values[:rank], rtol=1e-8)
    np.testing.assert_allclose(
        abs((found.directions[:, :rank].numpy() * right[:rank].T).sum(0)), 1, atol=1e-6
    )  # the same directions up to sign
    assert found.total == pytest.approx(values.sum())


def test_a_large_problem_is_solved_at_random_and_agrees(monkeypatch):
    rows = centred(300, 40)
    exact = spectrum(rows, 5, seed=0)
    monkeypatch.setattr(starts, "EXACT_SIZE", 10)
    found = spectrum(rows, 5, seed=0)
    assert len(found.eigenvalues) == 5
    np.testing.assert_allclose(found.eigenvalues, exact.eigenvalues[:5], rtol=1e-6)
    np.testing.assert_allclose(found.directions, exact.directions[:, :5], atol=1e-4)
    assert found.total == pytest.approx(exact.total)


def test_large_covariances_are_accumulated_in_the_rows_precision_and_agree(monkeypatch):
    rows = centred(500, 20)
    exact = spectrum(rows, None, seed=0)
    monkeypatch.setattr(starts, "EXACT_PRODUCTS", 0)
    np.testing.assert_allclose(spectrum(rows.float(), None, 0).eigenvalues, exact.eigenvalues, rtol=1e-4, atol=1e-7)


def test_signs_are_settled_by_the_largest_entry():
    directions = spectrum(centred(50, 8), None, seed=0).directions
    peaks = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    assert (peaks > 0).all()


def test_the_smallest_number_of_components_that_keeps_a_share():
    rows = torch.eye(4, dtype=torch.float64) * torch.tensor([4.0, 3.0, 2.0, 1.0]).double().sqrt()
    found = spectrum(rows, None, seed=0)  # shares .4 .3 .2 .1
    assert [found.n_components_for(share) for share in (0.1, 0.4, 0.41, 0.7, 0.9, 0.91, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert spectrum(torch.zeros(3, 2), None, seed=0).n_components_for(0.9) == 1


def test_a_closed_form_is_claimed_only_where_one_is_known():
    rows = torch.eye(2, dtype=torch.float64) * torch.tensor([4.0, 2.0]).double().sqrt()  # covariance diag(2, 1)
    ones = torch.ones(2)

    def kept(**words):
        model = Composition(MLP(), MLP(), **words)
        model.setup(2, 2, torch.Generator())
        start = linear_start(linear_problem(rows, spectrum(rows, 2, 0), model, Objective(), (ones, ones)))
        return None if start is None else (start.decoder @ start.encoder).diagonal()

    assert kept().tolist() == [1, 1]
    torch.testing.assert_close(kept(corruption=GaussianNoise(1.0)), torch.tensor([2 / 3, 1 / 2]).double())
    assert kept(prior=Laplace()) is None
    assert kept(corruption=GaussianNoise(1.0), prior=Laplace()) is None
    assert kept(corruption=GaussianNoise(1.0), weight_prior=GaussianWeights()) is None
