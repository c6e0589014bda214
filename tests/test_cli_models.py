"""Every command with every kind of saved model: it answers, or an error says what such a model can do."""

import shlex

import numpy as np
import pandas as pd
import pytest

import eigencode
from eigencode import (
    Autoencoder,
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderSearch,
    ContractiveAutoencoder,
    DenoisingAutoencoder,
    LinearAutoencoder,
    SparseAutoencoder,
    StackedAutoencoder,
    VariationalAutoencoder,
)
from eigencode.cli import main
from eigencode.data.files import read_table

QUICK = {"max_epochs": 2, "random_state": 0}


def labelled(kind, labels):
    def fit(X):
        autoencoder = Autoencoder(2, hidden=(8,), **QUICK)
        return kind(autoencoder=autoencoder, **QUICK).fit(X, labels(X))

    return fit


def streamed(X):
    model = Autoencoder(2, hidden=(8,), random_state=0)
    for block in np.array_split(np.arange(len(X)), 2):
        model.partial_fit(X.iloc[block])
    return model


def searched(X):
    return AutoencoderSearch(Autoencoder(hidden=(8,), **QUICK), {"n_components": [1, 2]}, cv=2).fit(X).best_estimator_


def of_text(X):
    return np.where(X["a"] > 0, "high", "low")


MODELS = {
    "plain": Autoencoder(2, hidden=(8,), **QUICK).fit,
    "without names": lambda X: Autoencoder(2, hidden=(8,), **QUICK).fit(X.to_numpy()),
    "untrained": Autoencoder(2, hidden=(8,), max_epochs=0, random_state=0).fit,
    "ordered": Autoencoder(2, hidden=(8,), ordered=True, **QUICK).fit,
    "linear": LinearAutoencoder(2).fit,
    "sparse": SparseAutoencoder(6, **QUICK).fit,
    "denoising": DenoisingAutoencoder(2, hidden=(8,), **QUICK).fit,
    "contractive": ContractiveAutoencoder(2, hidden=(8,), **QUICK).fit,
    "variational": VariationalAutoencoder(2, hidden=(8,), **QUICK).fit,
    "stacked": StackedAutoencoder(2, hidden=(3,), **QUICK).fit,
    "with a density": lambda X: Autoencoder(2, hidden=(8,), **QUICK).fit(X).fit_density(X),
    "a stream": streamed,
    "a choice": searched,
    "classifier": labelled(AutoencoderClassifier, lambda X: (X["a"] > 0).to_numpy()),
    "classifier of text": labelled(AutoencoderClassifier, of_text),
    "regressor": labelled(AutoencoderRegressor, lambda X: X["a"] + X["b"]),
    "regressor of two": labelled(AutoencoderRegressor, lambda X: X[["a", "b"]].to_numpy()),
}
COMMANDS = {
    "describe": "describe m.safetensors",
    "describe as JSON": "describe m.safetensors --json",
    "transform": "transform m.safetensors rows.csv --output answer.csv",
    "decode": "decode m.safetensors codes.csv --output answer.csv",
    "reconstruct": "reconstruct m.safetensors rows.csv --output answer.csv",
    "score": "score m.safetensors rows.csv --output answer.csv",
    "score as JSON": "score m.safetensors rows.csv --json",
    "sample": "sample m.safetensors --n-rows 5 --output answer.csv",
    "predict": "predict m.safetensors rows.csv --output answer.csv",
}
FOR_LABELS, FOR_AUTOENCODERS = {"predict"}, {"decode", "reconstruct", "score", "score as JSON", "sample"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder with rows, a model and codes for each kind of model, made when first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = folder = tmp_path_factory.mktemp("model")
            z = np.random.default_rng(0).normal(size=(80, 2))
            X = pd.DataFrame(np.hstack([z, z**2]), columns=list("abcd"))
            X.to_csv(folder / "rows.csv", index=False)
            model = MODELS[kind](X)
            model.save(folder / "m.safetensors")
            encoder = getattr(model, "autoencoder_", model)
            codes = encoder.transform(X if hasattr(encoder, "feature_names_in_") else X.to_numpy())
            pd.DataFrame(codes, columns=encoder.get_feature_names_out()).to_csv(folder / "codes.csv", index=False)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
def test_every_command_with_every_model(command, kind, folders, monkeypatch, capsys):
    monkeypatch.chdir(folders(kind))
    capsys.readouterr()
    code = main(shlex.split(COMMANDS[command]))
    out, err = capsys.readouterr()
    is_of_labels = kind.startswith(("classifier", "regressor"))
    refused = (
        (command in FOR_LABELS and not is_of_labels)
        or (command in FOR_AUTOENCODERS and is_of_labels)
        or (command == "sample" and kind == "a stream")  # which keeps no rows, so that there is no density
    )
    assert code == refused
    if refused:
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert "Got " in err
    else:
        assert out


@pytest.mark.versions
@pytest.mark.filterwarnings("ignore::eigencode.errors.ResultWarning")
def test_labels_are_the_librarys(folders, monkeypatch, capsys):
    for kind in ["classifier of text", "regressor", "regressor of two"]:
        monkeypatch.chdir(folders(kind))
        model, X = eigencode.load("m.safetensors"), pd.read_csv("rows.csv")
        assert main(["predict", "m.safetensors", "rows.csv", "--output", "labels.csv"]) == 0
        labels = pd.read_csv("labels.csv")
        predicted = model.predict(X)
        if kind == "classifier of text":
            assert labels["prediction"].tolist() == predicted.tolist()
            shares = labels[["probability_high", "probability_low"]].to_numpy()
            np.testing.assert_allclose(shares, model.predict_proba(X), rtol=1e-6)
        else:
            np.testing.assert_allclose(labels.to_numpy().squeeze(), predicted, rtol=1e-6)
        assert main(["transform", "m.safetensors", "rows.csv", "--output", "answer.csv"]) == 0
        np.testing.assert_allclose(read_table("answer.csv").rows, model.autoencoder_.transform(X), rtol=1e-6)
        capsys.readouterr()
        assert main(["describe", "m.safetensors"]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert f"kind {type(model).__name__}" in printed
        told = {"classifier of text": "high, low", "regressor": "1 number", "regressor of two": "2 numbers"}
        assert f"predicts {told[kind]} autoencoder Autoencoder" in printed
        assert "columns a, b, c, d" in printed
