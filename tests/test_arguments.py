"""Arguments that cannot be used raise an error of ours that says which and why."""

import inspect
import math

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import eigencode
from eigencode import (
    AnomalyDetector,
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderSearch,
    DenoisingAutoencoder,
    LinearAutoencoder,
    StackedAutoencoder,
)
from eigencode.errors import DataError, OptionError
from eigencode.parts import (
    MLP,
    CallableCorruption,
    Custom,
    GaussianNoise,
    GaussianWeights,
    LaplaceLikelihood,
    LaplacePrior,
    Penalty,
    Point,
    PoissonLikelihood,
)

pytestmark = pytest.mark.versions

ROWS = np.random.default_rng(0).normal(size=(40, 3))


class Lopsided(nn.Module):
    """No map of cells, but a sum."""

    def forward(self, x):
        return x.sum(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": None}, "'likelihood' parameter must be a name or a part"),
        ({"likelihood": LaplacePrior()}, "'likelihood' parameter must be a Likelihood part"),
        ({"likelihood": LaplaceLikelihood}, "'likelihood' parameter must be a Likelihood part"),
        ({"code": LaplacePrior()}, "'code' parameter must be a Code part"),
        ({"corruption": Point()}, "'corruption' parameter must be a Corruption part"),
        ({"prior": GaussianNoise(0.1)}, "'prior' parameter must be a Prior part"),
        ({"weight_prior": LaplacePrior()}, "'weight_prior' parameter must be a WeightPrior part"),
        ({"penalties": [LaplacePrior()]}, "'penalties' parameter must be a Penalty part"),
        ({"penalties": LaplacePrior()}, "sequence of penalty parts"),
        ({"penalties": None}, "sequence of penalty parts"),
        ({"encoder": LaplacePrior()}, "LaplacePrior cannot take rows of 30 numbers"),
        ({"encoder": Custom(3)}, "'module' parameter of Custom must be a torch module"),
        ({"encoder": [3]}, "must be a part or a torch module"),
        ({"decoder": nn.ReLU}, "must be a part or a torch module"),
        ({"activation": nn.ReLU}, "elementwise torch module"),
        ({"activation": [1]}, "elementwise torch module"),
        ({"activation": LaplacePrior()}, "elementwise torch module"),
        ({"activation": nn.Linear(3, 3, device="meta")}, "elementwise torch module"),
        ({"activation": Lopsided()}, "elementwise torch module"),
        ({"corruption": GaussianNoise(-1)}, "'variance' parameter of GaussianNoise must be a finite number"),
        ({"corruption": GaussianNoise(math.nan)}, "'variance' parameter of GaussianNoise must be a finite number"),
        ({"prior": LaplacePrior(0)}, "'rate' parameter of LaplacePrior must be a finite number above 0"),
        ({"prior": LaplacePrior(math.inf)}, "'rate' parameter of LaplacePrior must be a finite number above 0"),
        ({"weight_prior": GaussianWeights("a")}, "variances of weights must be positive numbers"),
        ({"weight_prior": GaussianWeights([[1, 2], [3]])}, "variances of weights must be positive numbers"),
        ({"weight_prior": GaussianWeights(math.inf)}, "variances of weights must be positive numbers"),
        ({"beta": math.inf}, r"'beta' parameter of Autoencoder must be a float in the range \[0, inf\)"),
        ({"learning_rate": math.inf}, "'learning_rate' parameter of Autoencoder must be a float"),
        ({"max_seconds": math.inf}, "'max_seconds' parameter of Autoencoder must be a float"),
        ({"random_state": [1, 2]}, "'random_state' must be None, a non-negative int or a NumPy random generator"),
        ({"device": "meta"}, "device 'meta' cannot be used"),
        ({"n_components": 30, "encoder": nn.Identity(), "decoder": nn.Identity()}, "no weights to train"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_arguments_that_cannot_be_used_are_refused(cancer, options, message):
    with pytest.raises(OptionError, match=message):
        Autoencoder(**{"n_components": 2, "hidden": (4,), "max_epochs": 1, **options}).fit(cancer)


@pytest.mark.parametrize("size", [1e17, 1e22, 1e100])
def test_values_whose_squares_are_beyond_the_precision_are_refused(size):
    rows = np.random.default_rng(0).uniform(0.5, 1, size=(20, 3)) * size
    with pytest.raises(DataError, match="too large for float32 beside the scale of their columns.*scale='standard'"):
        Autoencoder(2, scale="none").fit(rows)
    assert np.isfinite(Autoencoder(2, max_epochs=1, random_state=0).fit(rows).reconstruct(rows)).all()


def test_tensors_that_ask_for_a_gradient_are_rows_like_others(cancer):
    tensor = torch.from_numpy(cancer).requires_grad_()
    model = Autoencoder(2, hidden=(4,), max_epochs=1, random_state=0).fit(tensor)
    np.testing.assert_array_equal(model.transform(tensor), model.transform(cancer))
    assert tensor.grad is None


@pytest.mark.parametrize(
    "options",
    [
        {"init": "random"},
        {"max_epochs": 3},
        {"optimizer": "adam"},
        {"learning_rate": 0.1},
        {"batch_size": 9},
        {"patience": 3},
        {"max_seconds": 2.0},
    ],
    ids=str,
)
def test_the_exact_solver_passes_over_nothing_in_silence(cancer, options):
    (name,) = options
    with pytest.raises(OptionError, match=f"does not use '{name}'.*Use solver='gradient'"):
        LinearAutoencoder(2, **options).fit(cancer)
    assert LinearAutoencoder(2, max_epochs=0, init="linear").fit(cancer).init_ == "linear"


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: AnomalyDetector(Autoencoder()).fit(ROWS), r"Write AnomalyDetector\(autoencoder=Autoencoder\(\)\)"),
        (lambda: AnomalyDetector(missing_values=-1), r"write AnomalyDetector\(autoencoder=Autoencoder\(missing_v"),
        (lambda: AnomalyDetector(0.1, Autoencoder()), r"as in AnomalyDetector\(autoencoder=Autoencoder\(\)\)"),
        (lambda: AnomalyDetector(trims=False), "Did you mean 'trim'"),
        (lambda: AnomalyDetector(autoencoder=Autoencoder).fit(ROWS), r"Write Autoencoder\(\), an instance"),
        (lambda: AnomalyDetector().set_params(autoencoder__hidden=()), r"Write AnomalyDetector\(autoencoder="),
        (lambda: AutoencoderClassifier(3).fit(ROWS, ROWS[:, 0] > 0), r"autoencoder=Autoencoder\(3\)"),
        (lambda: AutoencoderClassifier(n_components=3), r"autoencoder=Autoencoder\(n_components=3\)"),
        (lambda: AutoencoderSearch(n_components=[1]), r"AutoencoderSearch\(Autoencoder\(\), {'n_components': \[1\]}\)"),
        (
            lambda: AutoencoderSearch(Autoencoder()),
            r"AutoencoderSearch needs 'param_grid'. Write AutoencoderSearch\(estimator, param_grid\)",
        ),
        (lambda: Autoencoder(2, n_components=3), "Autoencoder takes one 'n_components'. Got 2 and n_components=3."),
        (lambda: StackedAutoencoder([Autoencoder(2)]).fit(ROWS), r"Write layers=\[...\] if these are the layers"),
        (lambda: Autoencoder(2, (64,)), r"Write the name before it, as in Autoencoder\(hidden=\(64,\)\)"),
        (lambda: Autoencoder([64, 32]).fit(ROWS), r"Write hidden=\[64, 32\] if these are"),
        (lambda: Autoencoder(noise=0.3), f"It is an option of {DenoisingAutoencoder.__name__}"),
        (lambda: Autoencoder(hidden_sizes=(3,)), "Did you mean 'hidden'"),
        (lambda: GaussianNoise(varience=1), "GaussianNoise has no option 'varience'. Got .*Did you mean 'variance'"),
        (lambda: GaussianNoise(1.0, 2.0), "GaussianNoise takes 'variance' and nothing else. Got 2.0 too"),
        (lambda: CallableCorruption(), r"CallableCorruption needs 'function'. Write CallableCorruption\(function\)"),
        (lambda: PoissonLikelihood(1.0), "PoissonLikelihood takes nothing. Got 1.0 too"),
        (lambda: PoissonLikelihood(variance=1), "PoissonLikelihood has no option 'variance'. Got variance=1."),
        (lambda: MLP(tied=True), "MLP has no option 'tied'. Got tied=True. It is an option of Autoencoder"),
    ],
)
def test_wrong_arguments_of_a_constructor_say_what_to_write(make, hint):
    with pytest.raises(OptionError, match=hint) as found:
        make()
    assert isinstance(found.value, TypeError)


def test_a_constructor_is_still_that_of_its_class():
    assert list(inspect.signature(AnomalyDetector).parameters)[:2] == ["false_alarms", "autoencoder"]
    detector = AnomalyDetector(0.1, autoencoder=LinearAutoencoder(1)).set_params(autoencoder__n_components=2)
    assert clone(detector).autoencoder.n_components == 2


def test_a_subclass_is_named_if_it_has_no_constructor_of_its_own():
    class Heir(Autoencoder):
        pass

    class Maker(Autoencoder):
        def __init__(self, size):
            super().__init__(n_component=size)

    with pytest.raises(OptionError, match="Heir has no option 'hiden'. Got hiden=3. Did you mean 'hidden'"):
        Heir(hiden=3)
    with pytest.raises(OptionError, match="Autoencoder has no option 'n_component'"):
        Maker(3)
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'") as found:
        Maker(wrong=3)
    assert type(found.value) is TypeError


@pytest.mark.parametrize(
    ("estimator", "params", "message"),
    [
        (Autoencoder(), {"n_comp": 3}, "Autoencoder has no option 'n_comp'. Got n_comp=3. Did you mean 'n_components'"),
        (Autoencoder(), {"n_comp__x": 3}, "Autoencoder has no option 'n_comp'"),
        (AnomalyDetector(), {"n_components": 3}, "Its autoencoder has it"),
        (
            AnomalyDetector(),
            {"autoencoder__n_components": 3},
            r"is an option of an autoencoder, and none is given. Write AnomalyDetector\(autoencoder=Autoencoder\(\)\)",
        ),
        (Autoencoder(), {"prior__scale": 3}, "'prior__scale' is an option of 'prior', which has no options. Got None"),
        (Autoencoder(), {"n_components__x": 3, "n_components": 2}, "option of 'n_components', .* Got 2. Give"),
    ],
)
def test_options_that_cannot_be_set(estimator, params, message):
    """The same errors as those of constructors, also where a grid names the options."""
    with pytest.raises(OptionError, match=message):
        clone(estimator).set_params(**params)
    if isinstance(estimator, Autoencoder) and len(params) == 1:
        grid = {name: [value] for name, value in params.items()}
        with pytest.raises(OptionError, match=f"^{message}"):
            AutoencoderSearch(estimator, grid).fit(np.eye(9))


def test_a_subclass_sets_options_of_its_own():
    class Heir(Autoencoder):
        def __init__(self, size=1):
            super().__init__(size)
            self.size = size

    assert Heir().set_params(size=3).size == 3
    with pytest.raises(OptionError, match="Heir has no option 'siz'. Got siz=2. Did you mean 'size'"):
        Heir().set_params(siz=2)


def test_a_name_that_the_package_lacks_can_be_compared_with_those_it_has():
    """Python's own hint is made from these."""
    with pytest.raises(AttributeError, match="no attribute 'AutoEncoder'") as found:
        eigencode.AutoEncoder  # noqa: B018
    assert (found.value.name, found.value.obj) == ("AutoEncoder", eigencode)


def test_a_part_of_ones_own_has_the_same_errors():
    class Mine(LaplacePrior):
        def __init__(self, rate=1.0, power=2):
            super().__init__(rate)
            self.power = power

    class Heir(Mine):
        pass

    with pytest.raises(OptionError, match="Heir has no option 'pover'. Got pover=3. Did you mean 'power'"):
        Heir(pover=3)
    assert (Heir(2.0, power=3).set_params(rate=4.0).get_params(), repr(Heir(power=3))) == (
        {"rate": 4.0, "power": 3},
        "Heir(power=3)",
    )
    assert list(inspect.signature(Heir).parameters) == ["rate", "power"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda cls: cls(1, 2, 3, 4), "ByPosition takes 'a' and 'b' and 'c' without a name, and other options by th"),
        (lambda cls: cls(1, b=2), r"ByPosition needs 'b'. Write ByPosition\(a, b\)"),
        (lambda cls: cls(1, 2), r"ByPosition takes 'a' and 'b' without. Got __init__\(a, b, /, c=3, \*, d=4\). Write"),
    ],
)
def test_arguments_of_parts_that_have_no_names(make, says):
    class ByPosition(Penalty):
        def __init__(self, a, b, /, c=3, *, d=4):
            super().__init__()
            self.a, self.b, self.c, self.d = a, b, c, d

    with pytest.raises(OptionError, match=says):
        Autoencoder(penalties=[make(ByPosition)], max_epochs=1).fit(ROWS)


def test_parts_that_pass_their_arguments_on_unnamed():
    class Some(LaplacePrior):
        def __init__(self, *more):
            super().__init__(*more)

    class Named(LaplacePrior):
        def __init__(self, **more):
            super().__init__(**more)

    for mine, listed in ((Some(2.0), r"\*more"), (Named(rate=2.0), r"\*\*more")):
        says = rf"{type(mine).__name__} takes 'more' without. Got __init__\({listed}\). Write its __init__ without /, "
        with pytest.raises(OptionError, match=says):
            clone(mine)
        with pytest.raises(OptionError, match=says):
            Autoencoder(prior=mine, max_epochs=1).fit(ROWS)
