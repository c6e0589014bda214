"""Fitted models in repositories of the Hugging Face Hub, each with a model card made from the model.

This module takes ``pip install 'eigencode[hub]'``. A repository has the model file, which is data and never code, a
``config.json`` and a ``README.md``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from eigencode._version import __version__
from eigencode.descriptions import description, summary
from eigencode.errors import EigencodeError, FileError, OptionError, as_path
from eigencode.estimators.loading import load

if TYPE_CHECKING:
    from torch import nn

    from eigencode.estimators.base import BaseAutoencoder
    from eigencode.estimators.persistence import Saved

try:
    from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin, hf_hub_download
except ImportError as error:
    raise OptionError(
        "eigencode.hub needs huggingface_hub", got=error.msg, hint="Install it with: pip install 'eigencode[hub]'"
    ) from None

FILE = "model.safetensors"
"""Name of the model file in a repository."""

CARD = """# {kind}

A model fitted with eigencode, a Python package for autoencoders (`pip install "eigencode[hub]"`).

```python
import eigencode.hub

model = eigencode.hub.from_pretrained("{name}")
```

| | |
|---|---|
{facts}

The file contains weights, names of columns, and of the rows fitted: means and spreads of columns, their smallest and
largest values, and the labels of categories.{kept} Loading it runs no code.
"""
"""Text of a model card."""


class _Repository(ModelHubMixin, library_name="eigencode"):
    """A model as huggingface_hub handles it: a folder that is written, sent or read."""

    def __init__(self, model: Saved, card: ModelCard | None = None) -> None:
        self.model, self.card = model, card

    def _save_pretrained(self, save_directory: Path) -> None:
        self.model.save(save_directory / FILE)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, parts: Iterable[type | nn.Module] = (), device: str = "auto", **source: Any
    ) -> _Repository:
        folder = Path(model_id)
        path = folder / FILE if folder.is_dir() else hf_hub_download(model_id, FILE, library_name="eigencode", **source)
        return cls(load(path, parts, device))

    def generate_model_card(self, *args: Any, **options: Any) -> Any:
        """The model card."""
        return self.card


def model_card(model: Saved, name: str = "owner/name", **data: Any) -> ModelCard:
    """A model card: what the model is, how it was trained, how good it is beside the linear one, and what it keeps.

    Parameters
    ----------
    model : estimator
        A fitted model.
    name : str
        The repository's name, as it stands in the example.
    **data : object
        Further entries of the card's header, as ``license="apache-2.0"``.

    Returns
    -------
    huggingface_hub.ModelCard
    """
    check_is_fitted(model)
    facts = {**summary(model), "version": __version__}
    tags = ["eigencode", "autoencoder", *(["anomaly-detection"] if "false_alarms" in facts else [])]
    header = ModelCardData(**{"library_name": "eigencode", "tags": tags, **data})
    lines = [f"| {_cell(key)} | {_cell(text)} |" for key, text in description(facts).items()]
    kept = f" It contains {facts['n_kept']:,} of the rows themselves." if facts.get("n_kept") else ""
    text = CARD.format(kind=facts["kind"], name=name, facts="\n".join(lines), kept=kept)
    return ModelCard(f"---\n{header.to_yaml()}\n---\n\n{text}")


def _cell(text: str) -> str:
    """A text as a cell of a Markdown table."""
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return escaped.replace("\n", "<br>")


def save_pretrained(model: Saved, folder: str | os.PathLike[str], **card: Any) -> None:
    """Write a folder with the content of a repository: the model, ``config.json`` and the model card.

    Parameters
    ----------
    model : estimator
        A fitted model.
    folder : path-like
        A folder, which is made if there is none; model and configuration in it are replaced, and a ``README.md`` stays.
    **card : object
        Entries of the card's header, as ``license="apache-2.0"``.

    Examples
    --------
    >>> import tempfile, eigencode.hub
    >>> from sklearn.datasets import load_wine
    >>> X = load_wine().data
    >>> model = eigencode.Autoencoder(2, max_epochs=3, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     eigencode.hub.save_pretrained(model, folder, license="apache-2.0")
    ...     again = eigencode.hub.from_pretrained(folder)
    >>> bool((again.transform(X) == model.transform(X)).all())
    True
    """
    path = Path(as_path(folder))
    written, config = _Repository(model, model_card(model, path.resolve().name, **card)), _config(model)
    with _errors(f"The model cannot be written to {str(path)!r}"):
        written.save_pretrained(path, config=config)


def push_to_hub(
    model: Saved, repo_id: str, private: bool = True, card: dict[str, Any] | None = None, **options: Any
) -> str:
    """Send a fitted model with its card to a repository of the Hugging Face Hub.

    Parameters
    ----------
    model : estimator
        A fitted model.
    repo_id : str
        ``"owner/name"``; the repository is made if there is none.
    private : bool, default True
        Whether a new repository is private: a model file contains values of the rows fitted.
    card : dict, optional
        Entries of the card's header, as ``{"license": "apache-2.0"}``.
    **options : object
        Options of ``huggingface_hub.ModelHubMixin.push_to_hub``, as ``token``, ``branch`` and ``commit_message``.

    Returns
    -------
    str
        The address of the commit.
    """
    sent, config = _Repository(model, model_card(model, repo_id, **(card or {}))), _config(model)
    with _errors(f"The model cannot be sent to {repo_id!r}"):
        return str(sent.push_to_hub(repo_id, private=private, config=config, **options))


def from_pretrained(
    name: str | os.PathLike[str], parts: Iterable[type | nn.Module] = (), device: str = "auto", **source: Any
) -> BaseAutoencoder:
    """Read a model from a repository of the Hugging Face Hub, or from a folder that `save_pretrained` wrote.

    Parameters
    ----------
    name : str or path-like
        ``"owner/name"``, or a folder.
    parts, device : object
        As in `eigencode.load`.
    **source : object
        Options of ``huggingface_hub.ModelHubMixin.from_pretrained``, as ``revision``, ``token`` and ``cache_dir``.

    Returns
    -------
    estimator
        The fitted model.
    """
    with _errors(f"There is no model to read in {os.fspath(name)!r}"):
        return _Repository.from_pretrained(as_path(name), parts=parts, device=device, **source).model


def _config(model: Saved) -> dict[str, Any]:
    """What ``config.json`` says: facts for readers, which loading does not use."""
    facts = summary(model)
    return {"library_name": "eigencode", **{name: facts[name] for name in ("kind", "n_components", "n_features_in")}}


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Errors of the network, of names and of folders, which are of many classes, as a `FileError`."""
    try:
        yield
    except EigencodeError:
        raise
    except Exception as error:
        got = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FileError(what, got=got[:200]) from error
