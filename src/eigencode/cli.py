"""The command line: ``eigencode demo | fit | transform | decode | reconstruct | score | describe``.

Flags of ``fit`` are the knobs of the estimator, read from where they are said once. What takes seconds to import
is imported inside the commands, so that help, usage errors and completion answer at once.
"""

from __future__ import annotations

import io
import json
import math
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TextIO, Union, get_origin

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, Token

from eigencode._version import __version__
from eigencode.errors import DataError, EigencodeError
from eigencode.options import AutoencoderOptions, Option, options_of

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.base import BaseAutoencoder

MODEL_ENDING = ".safetensors"

STREAM = Path("-")
"""In place of a table: standard input or standard output."""

INTERRUPTED = "Training was interrupted"
"""How the warning begins with which an estimator keeps its best weights on Ctrl-C."""

EXIT_CODES = (
    "Exit codes: 0 if done; 1 if a command failed for a reason that its message says; 2 if it was not understood; "
    "130 if it was interrupted by Ctrl-C (fit saves the best weights so far)."
)

SCALES = {
    "common": "one scale for all columns",
    "standard": "each column by its standard deviation",
    "none": "columns centred only",
}
STARTS = {"linear": "at the linear optimum of its kind", "plain": "from random weights"}

app = App(
    name="eigencode",
    help="Autoencoders for tables of numbers: CSV, Parquet and NPY files.",
    help_epilogue=EXIT_CODES,
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after "eigencode"; those of the process by default.

    Returns
    -------
    int
        The exit code: 0, or 1 where a command failed for a reason that its message says, or 2 where it was not
        understood, or 130 where it was interrupted.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    # A bare hyphen would pass for a flag; this is the same path.
    tokens = ["./-" if token == "-" else token for token in tokens]
    try:
        with _plain_warnings() as warned:
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except CycloptsError as error:
        command = " ".join(["eigencode", *(error.command_chain or ())])
        advice = _advice_on_taken_words(tokens, error)
        print(f"{error}{advice}\nSee {command} --help", file=sys.stderr)
        return 2
    except EigencodeError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the answer has all they wanted of it.
        _close_stdout()
        return 0
    return 130 if any(message.startswith(INTERRUPTED) for message in warned) else 0


@contextmanager
def _plain_warnings() -> Iterator[list[str]]:
    """Warnings as one line each, without the place in the source that raised them; yields a list of them."""
    said: list[str] = []

    def say(message: Warning | str, *_: object, **__: object) -> None:
        said.append(str(message))
        print(f"Warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = say
        yield said


def _close_stdout() -> None:
    """Let the rest go nowhere, so that Python does not complain at its end that it could not write it."""
    with suppress(OSError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _advice_on_taken_words(tokens: Sequence[str], error: CycloptsError) -> str:
    """A sentence for the case that a flag of several words took those meant for the command itself."""
    flag, words = None, list[str]()
    for token in tokens:
        if token.startswith("--"):
            name, _, value = token.partition("=")
            if name in FLAGS_OF_SEVERAL_WORDS:
                flag, words = name, [value] if value else []
            else:
                # Another flag ends the words of the one before, which stays the one to suspect.
                words = [*words, ""]
        elif "" not in words:
            words.append(token)
    words = [word for word in words if word]
    missing = isinstance(error, MissingArgumentError) and error.argument is not None
    if flag is None or not words or not missing or error.argument.name.startswith("--"):
        return ""
    return f" {flag} takes every word up to the next flag, here {shlex.join(words)}: put {error.argument.name} before it."


# -- flags from knobs


def flags_of(cls: type) -> type:
    """A dataclass of command-line flags, one for each knob that a command line can set.

    Parameters
    ----------
    cls : type
        An options class or estimator.

    Returns
    -------
    type
        Fields with the names and defaults of the knobs; their help, range and choices come from there too.
    """
    # Without a module of our own the class would pass for one of the standard library's, whose fields are not flags.
    return make_dataclass(
        "Flags",
        [
            (flag.name, Annotated[_parsed_type(flag), _parameter(flag)], field(default=flag.default))
            for flag in map(_without_objects, options_of(cls))
            if flag.knob.on_command_line
        ],
        kw_only=True,
        frozen=True,
        namespace={"__module__": __name__},
    )


def _without_objects(option: Option) -> Option:
    """The option as a command line has it, where Python objects cannot be given."""
    kinds = tuple(kind for kind in option.alternatives if kind is not Any)
    return replace(option, type=Union[kinds] if kinds else Any)  # noqa: UP007 (made at run time)


def _parsed_type(flag: Option) -> Any:
    """The type by which cyclopts counts a flag's words: as many as are there for a sequence, else one."""
    return next((kind for kind in flag.alternatives if get_origin(kind) is tuple), flag.type)


def _parameter(flag: Option) -> Parameter:
    """What cyclopts is to know of a flag beyond its type."""
    interval = flag.knob.interval
    said = flag.knob.help if interval == "(-inf, inf)" else f"{flag.knob.help} Range {interval}."
    if bool in flag.alternatives:
        return Parameter(help=said, group=KNOBS)
    return Parameter(
        help=said,
        group=KNOBS,
        converter=_reader(flag),
        consume_multiple=_is_sequence(flag),
        negative_iterable=(),
    )


def _reader(flag: Option) -> Callable[[Any, Sequence[Token]], Any]:
    """A function that reads a flag's words, and refuses in the knob's own words what is out of its domain."""

    def read(_: Any, tokens: Sequence[Token]) -> Any:
        values = tuple(_number(token.value, flag) for token in tokens)
        alone = len(values) == 1 and (isinstance(values[0], str) or not _is_sequence(flag))
        value = values[0] if alone else values
        flag.check(value, "eigencode fit")
        return value

    return read


def _is_sequence(flag: Option) -> bool:
    return get_origin(_parsed_type(flag)) is tuple


def _number(word: str, flag: Option) -> Any:
    """A word as a number, where the flag takes numbers and it reads as one."""
    kinds = [int] if _is_sequence(flag) else [kind for kind in (int, float) if kind in flag.alternatives]
    for kind in kinds:
        try:
            return kind(word)
        except ValueError:
            continue
    return word


KNOBS, FILES = Group("Autoencoder", sort_key=2), Group("Files", sort_key=1)

if TYPE_CHECKING:
    Flags = AutoencoderOptions
else:
    Flags = flags_of(AutoencoderOptions)

AUTOMATIC = Flags()

Rows = Annotated[Path, Parameter(help="Table of numbers: a .csv, .parquet or .npy file.", group=FILES)]
Model = Annotated[Path, Parameter(help="Model file that fit wrote.", group=FILES)]
TableOutput = Annotated[Path, Parameter(help="Where to: a .csv, .parquet or .npy file.", group=FILES)]
DemoOutput = Annotated[Path, Parameter(help="Folder to leave model, data and pictures in.")]
COLUMNS = Parameter(consume_multiple=True, negative_iterable=(), show_default=False, group=FILES)
Columns = Annotated[tuple[str, ...], COLUMNS, Parameter(help="Columns to use, in place of all.")]
Exclude = Annotated[tuple[str, ...], COLUMNS, Parameter(help="Columns to leave out.")]


# -- commands


@app.command(sort_key=0)
def demo(*, output: DemoOutput = Path("demo")) -> None:
    """Fit autoencoders to images of digits and compare them with PCA, in half a minute."""
    from eigencode.demo import run_demo

    run_demo(output)


@app.command(sort_key=1, usage="Usage: eigencode fit ROWS --output MODEL [OPTIONS]")
def fit(
    rows: Rows,
    /,
    *,
    output: Annotated[Path, Parameter(help="Where the model goes: a .safetensors file.", group=FILES)],
    columns: Columns = (),
    exclude: Exclude = (),
    flags: Annotated[Flags, Parameter(name="*")] = AUTOMATIC,
) -> None:
    """Fit an autoencoder to the rows of a table."""
    from eigencode.data.files import read_table
    from eigencode.data.outputs import check_output
    from eigencode.estimators.autoencoder import Autoencoder

    check_output(output, [MODEL_ENDING])
    table = read_table(rows, columns=columns, exclude=exclude)
    if len(table.rows) < 2:
        raise DataError("Fitting takes two rows at least", got=f"{len(table.rows)} in {str(rows)!r}")
    model = Autoencoder(**vars(flags)).fit(table.frame)
    model.save(output)
    _print(_outcome(model))
    print(f"\nThe model is in {output}. Encode rows with:\n")
    print(f"  {shlex.join(['eigencode', 'transform', str(output), str(rows), '--output', 'codes.parquet'])}")


@app.command(sort_key=2, usage="Usage: eigencode transform MODEL ROWS --output CODES [OPTIONS]")
def transform(
    model: Model, rows: Rows, /, *, output: TableOutput, columns: Columns = (), exclude: Exclude = ()
) -> None:
    """Encode the rows of a table: one line of codes for each row.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    fitted, X = _model_and_rows(model, rows, output, columns, exclude)
    _write(output, fitted.get_feature_names_out(), fitted.transform(X))


@app.command(sort_key=3, usage="Usage: eigencode reconstruct MODEL ROWS --output TABLE [OPTIONS]")
def reconstruct(
    model: Model, rows: Rows, /, *, output: TableOutput, columns: Columns = (), exclude: Exclude = ()
) -> None:
    """Encode and decode the rows of a table: what the model keeps of them.

    Columns are matched to those fitted by their names; choosing them is needed only where they have none.
    """
    fitted, X = _model_and_rows(model, rows, output, columns, exclude)
    names = _fitted_names(fitted) or [f"x{place}" for place in range(fitted.n_features_in_)]
    _write(output, names, fitted.reconstruct(X))


@app.command(sort_key=4, usage="Usage: eigencode describe MODEL")
def describe(model: Model, /) -> None:
    """Say in words what a model is and how its fit went."""
    from eigencode.storage import load, version_of

    _print({**_facts(load(model, device="cpu")), "written by": f"eigencode {version_of(model)}"})


def _model_and_rows(
    path: Path, rows: Path, output: Path, columns: Sequence[str], exclude: Sequence[str]
) -> tuple[BaseAutoencoder, Any]:
    """A model and the rows to ask it about, once it is known that the answer can be written."""
    from eigencode.data.files import read_matching
    from eigencode.data.formats import FORMATS
    from eigencode.data.outputs import check_output
    from eigencode.storage import load

    check_output(output, FORMATS)
    model = load(path)
    names = _fitted_names(model)
    table = read_matching(rows, names, model.n_features_in_, columns=columns, exclude=exclude)
    return model, table.rows if names is None else table.frame


def _write(output: Path, names: Sequence[str], answer: np.ndarray) -> None:
    from eigencode.data.files import write_columns

    write_columns(output, dict(zip(names, answer.T, strict=True)))
    print(f"{answer.shape[0]} rows of {answer.shape[1]} columns are in {output}.")


def _fitted_names(model: BaseAutoencoder) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else list(names)


# -- models in words


def _print(facts: Mapping[str, str]) -> None:
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


def _outcome(model: BaseAutoencoder) -> dict[str, str]:
    """How a fit came out, beside the linear model of the same kind."""
    judge = "held-out" if model.validation_fraction > 0 else "training"
    kept = model.history_[model.best_epoch_]["held_out_objective"]
    facts = {f"{judge} objective": f"{kept:.5g} nats a row of scaled data (lower is better)"}
    if model.baseline_ is None:
        return {**facts, "linear baseline": "no closed form is known for this kind"}
    linear = model.baseline_.history_[0]["held_out_objective"]
    facts["linear baseline"] = f"{linear:.5g}"
    if model.hidden_ and linear - kept <= NOTHING * abs(linear):
        facts["note"] = "the nonlinear part won nothing over the linear one: a linear model would do"
    return facts


def _facts(model: BaseAutoencoder) -> dict[str, str]:
    """A fitted model, fact by fact."""
    composition, execution = model.composition_, model.execution_
    hidden = " x ".join(map(str, model.hidden_))
    words = {name: getattr(composition, name) for name in ("code", "likelihood", "corruption", "prior")}
    n_weights = sum(weight.numel() for weight in composition.parameters())
    n_epochs, best = model.history_[-1]["epoch"], model.best_epoch_
    threads = "1 thread" if execution.n_threads == 1 else f"{execution.n_threads} threads"
    return {
        "kind": type(model).__name__,
        "code size": f"{model.n_components_}, from {model.n_features_in_} columns",
        "hidden layers": f"{hidden}, mirrored in the decoder" if hidden else "none: a linear map",
        "weights": f"{n_weights:,}",
        **{name: repr(word) for name, word in words.items() if word is not None},
        "scale": f"{model.scale_}: {SCALES[model.scale_]}",
        "start": f"{model.start_}: {STARTS[model.start_]}",
        "training": f"{n_epochs} epochs by {model.optimizer_}; the weights after epoch {best} were kept",
        **_outcome(model),
        "seed": f"{model.seed_}",
        "arithmetic": f"{execution.precision} on {execution.device}, {threads}",
        "columns": _enumerated(_fitted_names(model)),
    }


def _enumerated(names: list[str] | None, at_most: int = 8) -> str:
    if names is None:
        return "without names: matched by place"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
