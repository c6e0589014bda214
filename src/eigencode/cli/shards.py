"""--shard and --processes of commands that ask a model about rows: each process has a range of them, and a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from eigencode import data, processes
from eigencode.cli.flags import FILES, STREAM, FlagError
from eigencode.cli.workers import Processes, divide
from eigencode.errors import DataError, OptionError


@dataclass(frozen=True)
class Sharding:
    """Which rows of a table this process has: those of --shard, or of its number among several processes.

    Attributes
    ----------
    processes : int or None
        Processes to start.
    shard : str or None
        Number of a shard and number of shards, as 0/4.
    """

    processes: Processes = None
    shard: Annotated[
        str | None,
        Parameter(
            help="Answer for one of several ranges of the rows, such as 0/4 or 3/4; the file's name gets its number.",
            show_default=False,
            group=FILES,
        ),
    ] = None

    def begin(self, command: str, rows: Sequence[Path], output: Path | None) -> Part:
        """Go on in several processes if they are asked for; the part of this one."""
        divide(rows, self.processes)
        found = re.fullmatch(r"(\d+)/(\d+)", self.shard or "")
        if self.shard is not None and not (found and int(found[1]) < int(found[2])):
            message = f"--shard takes a number from 0 and the number of shards, as 0/4. Got {self.shard!r}."
            raise FlagError("--shard", message, command)
        number, n = processes.numbered() if found is None else map(int, found.groups())
        if n > 1 and output == STREAM:
            raise OptionError("Several shards cannot be written to standard output", hint="Name a file for --output")
        return Part(processes.Group(number, n), found is None)


WHOLE = Sharding()
Shard = Annotated[Sharding, Parameter(name="*")]


@dataclass
class Part:
    """The rows of one process.

    Attributes
    ----------
    group : Group
        Its number, and the number of parts.
    is_joined : bool
        Whether the parts are those of processes that can add up numbers.
    first : int
        The number of its first row in the table.
    """

    group: processes.Group
    is_joined: bool
    first: int = field(default=0, init=False)

    def name(self, output: Path) -> Path:
        """The file of this part: codes-00000-of-00002.csv; the names are in the order of the rows."""
        if self.group.size == 1:
            return output
        stem, ending = output.name.partition(".")[::2]
        return output.with_name(f"{stem}-{self.group.rank:05}-of-{self.group.size:05}.{ending}")

    def of(self, rows: Any, n_columns: int) -> Any:
        """The rows of this part, which are whole chunks of a network if there are enough rows."""
        if self.group.size == 1:
            return rows
        n, chunk = len(rows), data.chunk_rows(n_columns)
        if n < self.group.size:
            raise DataError(f"{self.group.size} shards need at least as many rows", got=f"{n}")
        unit = chunk if n >= chunk * self.group.size else 1
        chunks = self.group.part(-(-n // unit))
        self.first = chunks.start * unit
        return data.part_of_rows(rows, slice(self.first, min(chunks.stop * unit, n)))

    def total(self, *numbers: float) -> list[float]:
        """The sums of numbers over the processes; of a --shard, which knows no others, its own."""
        group = processes.group() if self.is_joined else None
        return list(numbers) if group is None else group.totals(numbers)

    @property
    def knows_all(self) -> bool:
        """Whether what is printed is of this part, and not of those of several processes."""
        return self.group.size == 1 or not self.is_joined
