"""The history of a fit in TensorBoard or MLflow, a row at a time while the model is trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from eigencode import processes
from eigencode.errors import FileError, OptionError, did_you_mean

Row = Mapping[str, float]


def tracked(rows: Iterable[Row], to: str, options: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """Log the rows of a history as they come, and pass them on; of several processes the first one logs.

    Parameters
    ----------
    rows : iterable of dict
        As ``iter_fit`` gives them.
    to : str
        ``'tensorboard:DIR'``, a folder for its event files; or ``'mlflow:URI'``, a tracking store (nothing after the
        colon: the one of MLFLOW_TRACKING_URI).
    options : mapping, optional
        What to log beside them, as ``model.get_params()``.

    Yields
    ------
    dict
        The rows.

    Raises
    ------
    OptionError
        For another system, or one that is not installed.
    FileError
        If the system cannot write.

    Examples
    --------
    >>> rows = tracked(model.iter_fit(X), "tensorboard:runs/first")  # doctest: +SKIP
    >>> history = list(rows)  # doctest: +SKIP
    """
    log = system_of(to)
    if not processes.is_first():
        return iter(rows)

    def passed_on() -> Iterator[Row]:
        with log({name: str(value) for name, value in (options or {}).items()}) as write:
            for row in rows:
                write({name: float(value) for name, value in row.items() if name != "step"}, int(row["step"]))
                yield row

    return passed_on()


Opened = AbstractContextManager[Callable[[Row, int], object]]


def system_of(to: str) -> Callable[[dict[str, str]], Opened]:
    """What opens a run of a system that is installed, with options, and gives the function that logs numbers."""
    name, _, where = to.partition(":")
    systems = {"tensorboard": _tensorboard, "mlflow": _mlflow}
    if name not in systems or (name == "tensorboard" and not where):
        hint = did_you_mean(name, systems) if name not in systems else "Name a folder behind the colon"
        raise OptionError("A fit is logged to 'tensorboard:DIR' or 'mlflow:URI'", got=repr(to), hint=hint)
    try:
        return systems[name](where)
    except ImportError as error:
        hint = f"Install it with: pip install 'eigencode[{name}]'"
        raise OptionError(f"Logging to {name} needs its package", got=str(error), hint=hint) from None


def _tensorboard(folder: str) -> Callable[[dict[str, str]], Opened]:
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
    from torch.utils.tensorboard import SummaryWriter

    @contextmanager
    def opened(options: dict[str, str]) -> Iterator[Callable[[Row, int], object]]:
        try:
            writer = SummaryWriter(folder)
        except OSError as error:
            raise FileError(f"Cannot write to {folder!r}", got=f"the error {error.strerror or error}") from error
        with writer:
            writer.add_text("options", "\n".join(f"    {name} = {value}" for name, value in options.items()), 0)
            file: Any = writer.file_writer
            is_first = True

            def write(row: Row, step: int) -> None:
                nonlocal is_first
                if is_first:  # a fit that goes on from a checkpoint replaces what was logged after it
                    start = SessionLog(status=SessionLog.START)
                    file.add_event(Event(step=step, session_log=start))
                    is_first = False
                for number in row.items():
                    writer.add_scalar(*number, step)

            yield write

    return opened


def _mlflow(uri: str) -> Callable[[dict[str, str]], Opened]:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    @contextmanager
    def opened(options: dict[str, str]) -> Iterator[Callable[[Row, int], object]]:
        try:
            client = MlflowClient(uri or None)
            run, status = client.create_run(os.environ.get("MLFLOW_EXPERIMENT_ID", "0")).info.run_id, "FAILED"
            try:
                for name, value in options.items():
                    client.log_param(run, name, value)
                yield lambda row, step: [client.log_metric(run, name, value, step=step) for name, value in row.items()]
                status = "FINISHED"
            finally:
                client.set_terminated(run, status)
        except MlflowException as error:  # at the start, or later, as when a server has gone
            raise FileError(f"Cannot log to the store {uri!r} of MLflow", got=f"the error {error}") from error

    return opened
