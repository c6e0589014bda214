"""Claims of the course on autoencoders that no other file asserts; docs/course.md names a test for each claim.

The comment beside a bound says what was seen over five seeds, of data and of start.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from eigencode import (
    Autoencoder,
    AutoencoderSearch,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    Noise,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.parts import MLP, CallableCorruption, GaussianCode, GaussianLikelihood, Point, StandardNormalPrior

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "course.md"


def mean_error(model, rows):
    return model.reconstruction_error(rows).mean()


# -- the page


def test_the_page_has_all_claims_and_names_tests_that_exist():
    claims = re.split(r"^## (?=\d)", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert [int(claim.split(".")[0]) for claim in claims] == list(range(1, 25))
    for claim in claims:
        named = re.findall(r"(test_\w+\.py)::(test_\w+)", claim)
        assert named, claim.splitlines()[0]
        for file, test in named:
            assert f"def {test}(" in (TESTS / file).read_text(), f"{file}::{test} is named by the page"


# -- size and capacity (claims 8 and 10)


def test_one_code_and_a_large_network_copy_the_rows_trained_on_only(digits):
    options = {"init": "random", "optimizer": "lbfgs", "validation_fraction": 0, "max_epochs": 80}
    ratios = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(digits)[:200]
        model = Autoencoder(1, hidden=(64, 64), random_state=seed, **options).fit(rows[:12])
        pca = LinearAutoencoder(1).fit(rows[:12])
        ratios.append([mean_error(model, part) / mean_error(pca, part) for part in (rows[:12], rows[12:])])
    on_training, on_test = np.mean(ratios, axis=0)
    assert on_training < 0.25  # 0.06 to 0.14
    assert on_test > 1.2  # 1.37 to 2.25


@pytest.mark.parametrize("n_causes", [1, 3])
def test_the_number_of_causes_is_found(n_causes):
    rng = np.random.default_rng(n_causes)
    rows = rng.normal(size=(400, n_causes)) @ rng.normal(size=(n_causes, 8)) + 0.5 * rng.normal(size=(400, 8))
    model = VariationalAutoencoder(hidden=(), max_epochs=0, prior=StandardNormalPrior(), random_state=0)
    search = AutoencoderSearch(model, {"n_components": [1, 2, 3, 4]}, cv=3, random_state=0).fit(rows)
    assert search.best_params_ == {"n_components": n_causes}


# -- noise (claim 14)


def test_every_visit_of_a_row_has_noise_of_its_own(digits):
    seen = []
    noise = CallableCorruption(lambda x, noise: seen.append(noise) or x + torch.special.ndtri(noise))
    options = {"hidden": (), "batch_size": 32, "max_epochs": 4, "random_state": 0}
    DenoisingAutoencoder(4, noise=noise, **options).fit(digits[:320])
    first_numbers = torch.cat([draw[:, 0] for draw in seen if draw.shape[1] == digits.shape[1]])
    assert len(first_numbers) >= 4 * 288
    assert len(first_numbers.unique()) > 0.99 * 4 * 288


# -- contraction (claims 16 and 17)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_contractive_code_changes_least_across_the_rows(seed):
    """The penalty is taken at rows on a curve: along it the reconstruction needs the change, across it nothing does."""
    rng = np.random.default_rng(seed)
    along = rng.uniform(-2, 2, 800)
    rows = np.stack([along, np.sin(1.5 * along)], axis=1) + 0.02 * rng.normal(size=(800, 2))
    t = np.linspace(-1.8, 1.8, 40)
    points = np.stack([t, np.sin(1.5 * t)], axis=1)
    tangents = np.stack([np.ones_like(t), 1.5 * np.cos(1.5 * t)], axis=1)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    normals = tangents[:, ::-1] * [-1, 1]
    options = {"hidden": (), "code": Point("sigmoid"), "scale": "standard", "max_epochs": 40, "random_state": seed}
    ratios = []
    for model in (ContractiveAutoencoder(20, weight=0.3, **options), Autoencoder(20, tied=True, **options)):
        jacobians = model.fit(rows).jacobian(points)
        changes = [np.linalg.norm(np.einsum("nkd,nd->nk", jacobians, d), axis=1) for d in (normals, tangents)]
        ratios.append(changes[0].mean() / changes[1].mean())
    assert ratios[0] < 0.96  # 0.74 to 0.85
    assert ratios[1] > 1  # 1.02 to 1.04


def test_contraction_brings_singular_values_below_one_and_turns_units_off(digits):
    """The codes do not become sparse: fewer units are saturated, and many are the same for all rows."""
    rows = digits[:800] / 16
    options = {"hidden": (), "code": Point("sigmoid"), "likelihood": "bernoulli", "max_epochs": 20, "random_state": 0}
    below_one, saturated, off = [], [], []
    for weight in (0.0, 10.0):
        model = ContractiveAutoencoder(32, weight=weight, **options).fit(rows)
        codes = model.transform(rows[:100])
        below_one.append((model.jacobian_spectrum(rows[:100])[:, 0] < 1).mean())
        saturated.append((np.abs(codes - 0.5) > 0.45).mean())
        off.append((codes.std(axis=0) < 0.05).mean())
    assert below_one[0] < 0.5  # 0.03 to 0.06
    assert below_one[1] > 0.95  # 1
    assert saturated[1] < 0.5 < 0.65 < saturated[0]  # 0.28 to 0.38, and 0.72 to 0.74
    assert off[0] == 0
    assert off[1] > 0.25  # 0.38 to 0.47


# -- densities (claims 18, 20 and 21)


@pytest.mark.parametrize("seed", range(3))
def test_densities_of_the_classes_classify_by_bayes_rule(seed):
    """Classes of one mean and different covariances: no linear discriminative model can tell them apart."""
    rng = np.random.default_rng(seed)
    maps = np.full((2, 4, 4), 0.0) + 0.3 * np.eye(4)
    maps[0, :2, 0] = maps[1, 2:, 1] = 2

    def drawn(n):
        labels = np.arange(n) % 2
        return np.einsum("nij,nj->ni", maps[labels], rng.normal(size=(n, 4))), labels

    (rows, labels), (new, truth) = drawn(600), drawn(2000)
    options = {"hidden": (), "max_epochs": 0, "prior": StandardNormalPrior(), "random_state": seed}
    models = [VariationalAutoencoder(1, **options).fit(rows[labels == c]) for c in (0, 1)]
    answers = np.stack([model.score_samples(new) for model in models]).argmax(axis=0)
    assert (answers == truth).mean() > 0.96  # 0.978 to 0.986
    assert LogisticRegression().fit(rows, labels).score(new, truth) < 0.6  # 0.48 to 0.49


def test_the_gap_of_the_bound_is_the_divergence_from_the_posterior(cancer):
    rows = cancer[:, :6] - cancer[:, :6].mean(0)
    rows /= rows.std(0)
    options = {"hidden": (), "max_epochs": 0, "precision": "float64", "scale": "none", "random_state": 0}
    likelihood, prior = GaussianLikelihood("learned"), StandardNormalPrior()
    model = VariationalAutoencoder(2, likelihood=likelihood, prior=prior, **options).fit(rows)
    composition, x = model.composition_, torch.from_numpy(rows)
    corners = math.sqrt(2) * torch.cat([torch.eye(2), -torch.eye(2)]).double()  # exact means of squares

    def bound():
        noises = [Noise(code=corner.expand(len(x), 2)) for corner in corners]
        return -np.mean([model.objective_(composition, composition(x, noise)).mean().item() for noise in noises])

    exact, (mean, deviation) = bound(), model.posterior(rows)
    assert exact == pytest.approx(model.log_likelihood(rows, 1).mean(), abs=1e-8)
    with torch.no_grad():
        composition.encoder.affine.bias += 0.1  # q is no longer the posterior, in mean and width
    other_mean, other_deviation = model.posterior(rows)
    ratio = (other_deviation / deviation) ** 2
    divergences = 0.5 * (ratio + ((other_mean - mean) / deviation) ** 2 - 1 - np.log(ratio)).sum(axis=1)
    assert divergences.mean() > 0.01
    assert exact - bound() == pytest.approx(divergences.mean(), abs=1e-8)


class WithoutEntropy(StandardNormalPrior):
    """The divergence without -H(q), which is -E log p(z)."""

    def divergence(self, q, z):
        return 0.5 * (q.mean.square() + q.variance + math.log(2 * math.pi)).sum(-1)


def test_without_the_entropy_the_posterior_becomes_a_point(digits):
    options = {"code": GaussianCode(), "likelihood": GaussianLikelihood(), "max_epochs": 10, "random_state": 0}
    widths = []
    for prior in (StandardNormalPrior(), WithoutEntropy()):
        model = Autoencoder(2, hidden=(32,), prior=prior, **options).fit(digits[:600])
        scaled = torch.from_numpy(model.scaler_.transform(digits[:200])).float()
        widths.append(model.composition_.encode(scaled).variance.sqrt().mean().item())
    assert widths[1] < 0.15 * widths[0]  # 0.06 to 0.09


# -- depth (claims 22 to 24)


def n_pieces(network):
    """The number of linear pieces of a function of one number in [0, 1]."""
    x = torch.linspace(0, 1, 2**14 + 1, dtype=torch.float64)[:, None]
    slopes = network(x).diff(dim=0)[:, 0] * 2**14
    return 1 + int((slopes.diff().abs() > 1e-6).sum())


def tents(depth):
    """2 min(x, 1 - x), applied again and again by two units a layer (Telgarsky, 2016)."""
    network = MLP(hidden=(2,) * depth, activation="relu")
    network.setup(1, 1, torch.Generator().manual_seed(0))
    layers = [layer for layer in network.layers if hasattr(layer, "weight")]
    fold, corners = torch.tensor([[2.0, -4.0]]), torch.tensor([0.0, -0.5])
    with torch.no_grad():
        for number, layer in enumerate(layers):
            layer.weight.copy_(fold if number else torch.ones(1))
            layer.bias.copy_(corners if number < depth else torch.zeros(1))
    return network.double()


def test_depth_doubles_the_pieces_where_width_adds_them():
    for depth in (1, 3, 6):
        assert n_pieces(tents(depth)) == 2**depth
    wide = MLP(hidden=(12,), activation="relu")  # as many units as the six layers
    wide.setup(1, 1, torch.Generator().manual_seed(0))
    first, last = (layer for layer in wide.layers if hasattr(layer, "weight"))
    with torch.no_grad():
        first.weight.fill_(1)
        first.bias.copy_(-torch.arange(1, 13) / 16)
        last.weight.copy_(torch.tensor([[3.0, -5.0] * 6]))
    assert n_pieces(wide.double()) == 13


def test_a_deeper_network_of_as_many_weights_rebuilds_digits_better(digits):
    errors, sizes = [], []
    for hidden in ((290,), (159, 59)):
        model = Autoencoder(4, hidden=hidden, max_epochs=15, random_state=0).fit(digits[:1300])
        errors.append(mean_error(model, digits[1300:]))
        sizes.append(sum(p.numel() for p in model.composition_.parameters()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.02)
    assert errors[1] < 0.94 * errors[0]  # 0.78 to 0.88


def test_a_deep_encoder_finds_sparse_codes_that_one_layer_cannot():
    """Rows are sums of 3 of 40 directions in 16 columns, which overlap: one layer cannot tell which three."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(40, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    chosen = rng.permuted(np.tile(np.arange(40) < 3, (2500, 1)), axis=1)
    rows = (chosen * rng.uniform(0.5, 1.5, size=chosen.shape)) @ directions + 0.02 * rng.normal(size=(2500, 16))
    options = {"sparsity": "top_k", "active": 3, "max_epochs": 40, "random_state": 0}
    shallow, deep = (SparseAutoencoder(40, hidden=h, **options).fit(rows[:2000]) for h in ((), (128,)))
    assert ((deep.transform(rows[2000:]) != 0).sum(axis=1) <= 3).all()
    assert mean_error(deep, rows[2000:]) < 0.9 * mean_error(shallow, rows[2000:])  # 0.46 to 0.69


def test_with_a_linear_path_and_gelu_pretraining_gains_little(digits):
    training, test = digits[:900], digits[900:]
    options = {"max_epochs": 15, "random_state": 0}
    stack = StackedAutoencoder(layers=(32, 16, 8, 4), activation="gelu", **options).fit(training)
    plain = Autoencoder(4, hidden=(32, 16, 8), **options).fit(training)
    assert 0.8 < mean_error(stack, test) / mean_error(plain, test) < 1.15  # 0.90 to 1.02
