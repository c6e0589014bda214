"""The command line: ``eigencode demo | fit | transform | reconstruct | describe``.

Flags of ``fit`` are the knobs of the estimator, read from where they are said once. What takes seconds to import
is imported inside the commands, so that help, usage errors and completion answer at once.
"""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union, get_origin

from cyclopts import App, CycloptsError, Group, Parameter, Token

from eigencode._version import __version__
from eigencode.errors import DataError, EigencodeError
from eigencode.options import AutoencoderOptions, Option, options_of

if TYPE_CHECKING:
    import numpy as np

    from eigencode.estimators.base import BaseAutoencoder

MODEL_ENDING = ".safetensors"

NOTHING = 1e-4
"""Share of the baseline's objective up to which a difference is none."""

SCALES = {
    "common": "one scale for all columns",
    "standard": "each column by its standard deviation",
    "none": "columns centred only",
}
STARTS: dict[str, str] = {"linear": "at the linear optimum of its kind", "plain": "from random weights"}

app = App(
    name="eigencode",
    help="Autoencoders for tables of numbers: CSV, Parquet and NPY files.",
    help_format="plaintext",
    version=__version__,
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
        understood.
    """
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with _plain_warnings():
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        command = " ".join(["eigencode", *(error.command_chain or ())])
        print(f"{error}\nSee {command} --help", file=sys.stderr)
        return 2
    except EigencodeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line each, without the place in the source that raised them."""
    with warnings.catch_warnings():
        show = warnings.showwarning
        if not sys.warnoptions:
            warnings.showwarning = lambda message, *_, **__: print(f"Warning: {message}", file=sys.stderr)
        yield
        warnings.showwarning = show


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
Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative_iterable=(), show_default=False)]


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
    columns: Annotated[Names, Parameter(help="Columns to use, in place of all.", group=FILES)] = (),
    exclude: Annotated[Names, Parameter(help="Columns to leave out.", group=FILES)] = (),
    flags: Annotated[Flags, Parameter(name="*")] = AUTOMATIC,
) -> None:
    """Fit an autoencoder to the rows of a table."""
    from eigencode.data.files import check_output, read_table
    from eigencode.estimators.autoencoder import Autoencoder

    check_output(output, [MODEL_ENDING])
    table = read_table(rows, columns=columns, exclude=exclude)
    if len(table.rows) < 2:
        raise DataError("Fitting takes two rows at least", got=f"{len(table.rows)} in {str(rows)!r}")
    model = Autoencoder(**vars(flags)).fit(table.frame)
    model.save(output)
    print(_result(model))
    print(f"The model is in {output}. Encode rows with:\n")
    print(f"  {shlex.join(['eigencode', 'transform', str(output), str(rows), '--output', 'codes.parquet'])}")


@app.command(sort_key=2, usage="Usage: eigencode transform MODEL ROWS --output CODES")
def transform(model: Model, rows: Rows, /, *, output: TableOutput) -> None:
    """Encode the rows of a table: one line of codes for each row."""
    _answer(model, rows, output, lambda fitted, X: (fitted.get_feature_names_out(), fitted.transform(X)))


@app.command(sort_key=3, usage="Usage: eigencode reconstruct MODEL ROWS --output TABLE")
def reconstruct(model: Model, rows: Rows, /, *, output: TableOutput) -> None:
    """Encode and decode the rows of a table: what the model keeps of them."""
    _answer(model, rows, output, lambda fitted, X: (_column_names(fitted), fitted.reconstruct(X)))


@app.command(sort_key=4, usage="Usage: eigencode describe MODEL")
def describe(model: Model, /) -> None:
    """Say in words what a model is and how its fit went."""
    from eigencode.storage import load, version_of

    facts = {**_facts(load(model, device="cpu")), "written by": f"eigencode {version_of(model)}"}
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")


def _answer(
    path: Path,
    rows: Path,
    output: Path,
    function: Callable[[BaseAutoencoder, Any], tuple[Sequence[str], np.ndarray]],
) -> None:
    """Load a model, ask it about the rows of a file, and write the named columns of its answer."""
    from eigencode.data.files import check_output, read_matching, write_columns
    from eigencode.storage import load

    check_output(output)
    model = load(path)
    table = read_matching(rows, _fitted_names(model), model.n_features_in_)
    names, answer = function(model, table.frame if _fitted_names(model) else table.rows)
    write_columns(output, dict(zip(names, answer.T, strict=True)))
    print(f"{len(answer)} rows of {len(names)} columns are in {output}.")


def _fitted_names(model: BaseAutoencoder) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    return None if names is None else list(names)


def _column_names(model: BaseAutoencoder) -> list[str]:
    """Names of the columns fitted, or scikit-learn's names for columns without any."""
    return _fitted_names(model) or [f"x{place}" for place in range(model.n_features_in_)]


# -- models in words


def _result(model: BaseAutoencoder) -> str:
    """How a fit came out, beside the linear model of the same kind."""
    judge = "held-out" if model.validation_fraction > 0 else "training"
    kept = model.history_[model.best_epoch_]["held_out_objective"]
    said = f"{kept:.5g} nats a row on the {judge} rows"
    if model.baseline_ is None:
        return f"{said}; the linear optimum of this kind is not known in closed form."
    linear = model.baseline_.history_[0]["held_out_objective"]
    said = f"{said}, the linear baseline {linear:.5g} (lower is better)."
    if linear - kept > NOTHING * abs(linear):
        return said
    return f"{said} The nonlinear part won nothing over the linear one: a linear model would do."


def _facts(model: BaseAutoencoder) -> dict[str, str]:
    """A fitted model, fact by fact."""
    composition, execution = model.composition_, model.execution_
    hidden = " x ".join(map(str, model.hidden_))
    words = {name: getattr(composition, name) for name in ("code", "likelihood", "corruption", "prior")}
    n_weights = sum(weight.numel() for weight in composition.parameters())
    threads = "1 thread" if execution.n_threads == 1 else f"{execution.n_threads} threads"
    return {
        "kind": type(model).__name__,
        "code size": f"{model.n_components_}, from {model.n_features_in_} columns",
        "hidden layers": f"{hidden}, mirrored in the decoder" if hidden else "none: a linear map",
        "weights": f"{n_weights:,}",
        **{name: repr(word) for name, word in words.items() if word is not None},
        "scale": f"{model.scale_}: {SCALES[model.scale_]}",
        "start": f"{model.start_}: {STARTS[model.start_]}",
        "training": f"{model.history_[-1]['epoch']} epochs by {model.optimizer_}; the weights after {model.best_epoch_} were kept",
        "result": _result(model),
        "seed": f"{model.seed_}",
        "arithmetic": f"{execution.precision} on {execution.device}, {threads}",
        "columns": _enumerated(_fitted_names(model)),
    }


def _enumerated(names: list[str] | None, at_most: int = 8) -> str:
    if names is None:
        return "without names: matched by place"
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
