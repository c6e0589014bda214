"""Claims: the library trains 3 times as fast as the fastest peer library at batches of 256 rows and 4 times at 1024, 2
times as fast as a loop over a DataLoader, and reaches each peer's final error in a tenth of the peer's time.

    python benchmarks/speed.py --data mnist=FOLDER fashion=FOLDER [--rounds 3] [--work a b] [--quick] [--output DIR]

It creates environments for the peers (one for pythae, PyOD, skorch and scikit-learn, another for Keras on JAX), runs
each task in a separate process for each peer in turn, several rounds, and writes the medians: ``table.md``,
``results.json`` and ``speed.png``. The folders are those of ``images.py``. Tasks whose rows are not given are left out.

    a  Fashion-MNIST, 784-512-256-32, batch 256 and 1024      e  a variational autoencoder, 784-400-40
    b  MNIST, 784-1000-500-250-30, batch 1024                 f  contractive, top-k and plain steps
    c  breast cancer, and a random table of 10,000 x 20       g  encoding a million rows
    d  a convolutional network

Rows per second are training rows over the time of the median epoch after the first. The time to an error is measured
from the rows in memory on, with scaling, PCA, compilation and modules loaded at the first step, but without imports and
without the evaluation of validation rows. Errors are mean squares per cell, for tables in units of each column's
standard deviation. All rounds of all peers take about two hours on two cores; run nothing else at the same time.
"""

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from images import images
from matplotlib.ticker import LogFormatter
from sklearn.datasets import load_breast_cancer

from eigencode.training.execution import has_bfloat16_units

HERE = Path(__file__).parent
ROOT = HERE.parent
WORKERS = HERE / "speed"
sys.path.insert(0, str(WORKERS))

from work import ASKED, LIBRARIES, PEERS, REQUIREMENTS, WORKS, made_table, split  # noqa: E402

DEVIATIONS = """\
- All: the work's sizes, batch and number of epochs; seeds; ReLU between the layers (eigencode: its default, GELU).
- All peers: Adam at 1e-3, which is the default of PyOD, Keras and scikit-learn; pythae's is 1e-4 (its examples use
  1e-3), skorch's is plain gradient descent at 1e-2, from which autoencoders hardly learn.
- eigencode: defaults otherwise, so a tenth of the rows chooses the best epoch and is not trained on; its step size
  decays towards the same last epoch. The linear path beside its network is extra work that no rate counts.
- pythae: its pipeline with the work's network as its encoder and decoder; the decoder ends in a sigmoid for images, as
  its own does. The best model is copied at each epoch, as it does by itself.
- PyOD: batch normalisation, dropout and weight decay as by default, and the outlier scores of all rows at the end,
  which the time to its error leaves out. Without preprocessing for images: dividing by the standard deviation of
  pixels that are never lit makes reconstructions of unseen rows meaningless.
- Keras: sigmoid at the end for images, as in its examples; no early stopping.
- skorch: shuffled batches (not its default); a fifth of the rows is its own validation set, as by default.
- scikit-learn: `partial_fit`, which is one epoch of `fit`; its code has a ReLU like its other layers.
- Tables: standardised by a StandardScaler, on the clock, where the peer does not do so itself. Batches are each
  peer's own default there, 128 rows for the hand-written loops.
- The variational one (e): PyOD's has a squared error, as it is; the others a Bernoulli likelihood.
- The lean loop runs in the precision that eigencode chose; all other peers in float32."""

QUICK = {
    "a-256": (2, 4_000), "a-1024": (2, 4_000), "b": (2, 4_000), "c-cancer": (10, None), "c-table": (3, None),
    "d": (2, 1_000), "e": (2, 4_000), "f": (3, 1_024), "g": (2, 50_000),
}  # fmt: skip
"""Epochs and rows for a test of the script; the times are meaningless."""


# -- environments


def pip(environment, requirements):
    """Install a list of requirements into an environment; return the reason if that fails, else None."""
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    constraints = (ROOT / "constraints.txt") if environment.name == "torch" else (WORKERS / "keras.txt")
    text = requirements.read_text() + constraints.read_text()
    stamp = environment / f"{requirements.stem}.sha256"
    digest = hashlib.sha256(text.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return None
    print(f"installing {requirements.name} into {environment}", flush=True)
    command = [scripts / "python", "-m", "pip", "install", "-q", "-r", requirements, "-c", constraints]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        return f"pip: {lines[-1] if lines else done.returncode}"
    stamp.write_text(digest)
    return None


def environments(folder, peers):
    """The Python of each peer whose environment could be installed, and the reasons for the others."""
    pythons, reasons = {}, {}
    for peer in peers:
        environment = folder / PEERS[peer]
        try:
            if not (environment / "pyvenv.cfg").exists():
                venv.create(environment, with_pip=True)
            lists = [f"{environment.name}.txt", *filter(None, [REQUIREMENTS.get(peer)])]
            reason = next(filter(None, (pip(environment, WORKERS / name) for name in lists)), None)
        except (OSError, subprocess.SubprocessError) as error:
            reason = f"{type(error).__name__}: {error}"
        if reason:
            reasons[peer] = reason
        else:
            paths = (environment / "bin/python", environment / "Scripts/python.exe")
            pythons[peer] = next(path for path in paths if path.exists())
    return pythons, reasons


# -- rows


def write_rows(folder, given, chosen, n_encoded):
    """The rows of each task as arrays on disk, for the workers."""
    makers = {
        "cancer": lambda: split(load_breast_cancer().data),
        "table": lambda: split(made_table()),
        "random": lambda: (np.random.default_rng(0).random((n_encoded, 784), dtype=np.float32), np.zeros((1, 784))),
        **{name: lambda folder=folder: images(folder) for name, folder in given.items()},
    }
    wanted = {WORKS[name].data for name in chosen}
    for name in wanted & makers.keys():
        for part, rows in zip(("training", "test"), makers[name](), strict=True):
            np.save(folder / f"{name}-{part}.npy", np.ascontiguousarray(rows, np.float32))
    return [name for name in chosen if WORKS[name].data in makers]


# -- measuring


def measured(python, options, name, peer, folder, precision):
    """The result of one worker."""
    command = [python, WORKERS / "worker.py", name, peer, folder, "--threads", options.threads]
    command += ["--precision", precision]
    if options.quick:
        epochs, n_rows = QUICK[name]
        command += ["--epochs", epochs, *(("--rows", n_rows) if n_rows else ())]
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(threads, str(options.threads))}
    environment.pop("PYTHONPATH", None)
    try:
        done = subprocess.run(
            [str(argument) for argument in command],
            env=environment, cwd=folder, capture_output=True, text=True, timeout=options.timeout,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"failure": f"no answer within {options.timeout} s"}
    except (IndexError, ValueError):
        return {"failure": f"exit status {done.returncode}: {(done.stderr.splitlines() or ['no output'])[-1]}"}


def rounds(options, chosen, peers, folder):
    """All measurements: lists over the rounds by task and peer, and the machine's rates of each round."""
    pythons, reasons = environments(options.environments, peers)
    found = {name: {peer: [] for peer in peers if peer in ASKED.get(WORKS[name].kind, peers)} for name in chosen}
    rates = []
    for turn in range(options.rounds):
        if "eigencode" in pythons:
            rates.append(measured(pythons["eigencode"], options, chosen[0], "matmul", folder, "float32"))
        for name in chosen:
            precision = "float32"
            for peer in found[name]:
                result = (
                    {"failure": reasons[peer]}
                    if peer in reasons
                    else measured(pythons[peer], options, name, peer, folder, precision)
                )
                if peer == "eigencode":
                    precision = result.get("precision", "float32")
                found[name][peer].append(result)
                speed = f"{result['rows_per_second']:,.0f} rows/s" if "rows_per_second" in result else "measured"
                print(f"round {turn + 1}, {name}, {peer}: {result.get('failure', speed)}", flush=True)
                save(options.output, found, rates)
    return found, [rate for rate in rates if "failure" not in rate]


def save(folder, found, rates):
    """Write the measurements so far, so that they are not lost if the run is stopped."""
    (folder / "results.json").write_text(json.dumps({"rates": rates, "work": found}, indent=1))


# -- summaries


def succeeded(results):
    """The rounds in which a peer succeeded."""
    return [result for result in results if "failure" not in result]


def median(results, key):
    """Median of a number over the rounds, NaN if no round has it."""
    numbers = [result[key] for result in succeeded(results) if key in result]
    return statistics.median(numbers) if numbers else math.nan


def last_error(result):
    """Validation error after the last epoch."""
    return result["curve"][-1][1]


def seconds_to(result, error):
    """Seconds until a validation error was reached, infinity if it never was."""
    return next((seconds for seconds, reached in result["curve"] if reached <= error), math.inf)


def time_ratio(ours, theirs):
    """Our time to a peer's final error over the peer's time, median over rounds."""
    found = [
        seconds_to(mine, last_error(other)) / other["curve"][-1][0]
        for mine, other in zip(ours, theirs, strict=False)  # a peer left out has no rounds
        if "curve" in mine and "curve" in other
    ]
    return statistics.median(found) if found else math.nan


def share_of_rate(name, results, rates, n_features=784):
    """Share of the machine's matmul rate, in the precision in use."""
    flops = WORKS[name].flops(n_features)
    good = succeeded(results)
    if flops is None or WORKS[name].is_table or not good or not rates:
        return math.nan
    rate = statistics.median(round_[good[0].get("precision", "float32")] for round_ in rates)
    return flops * median(results, "rows_per_second") / rate


@dataclass(frozen=True)
class Claim:
    """A number and its target."""

    text: str
    value: float
    target: float
    at_least: bool = False

    @property
    def verdict(self):
        """'met', 'missed', 'reported' without a target, or 'not measured'."""
        if math.isnan(self.value):
            return "not measured"
        if math.isinf(self.target):
            return "reported"
        is_met = self.value >= self.target if self.at_least else self.value <= self.target
        return "met" if is_met else "missed"

    @property
    def row(self):
        """The cells of the table."""
        bound = "-" if math.isinf(self.target) else f"at {'least' if self.at_least else 'most'} {self.target:g}"
        return self.text, number(self.value, ".3f"), bound, self.verdict


def claims(found, rates):
    """All claims."""
    for name, peers in found.items():
        for make in CLAIMS.get(name[0], ()):
            yield from make(name, peers, rates)


def speed_claims(name, peers, rates):
    """Rows per second over the fastest library's and the usual loop's."""
    speeds = {peer: median(results, "rows_per_second") for peer, results in peers.items() if succeeded(results)}
    ours = speeds.get("eigencode", math.nan)
    fastest = max(speeds.keys() & set(LIBRARIES), key=speeds.get, default=None)
    target = 3 if name.endswith("256") else 4
    ratio = ours / speeds.get(fastest, math.nan)
    yield Claim(f"{name}: rows/s over the fastest library's ({fastest})", ratio, target, True)
    loop = speeds.get("DataLoader loop", math.nan)
    yield Claim(f"{name}: rows/s over the DataLoader loop's", ours / loop, 2, True)


def rate_claims(name, peers, rates):
    """Share of the machine's rate."""
    yield Claim(f"{name}: share of the matmul rate", share_of_rate(name, peers.get("eigencode", []), rates), 0.65, True)


def time_claims(name, peers, rates):
    """Time to the peers' errors."""
    for peer, share in SHARES[name[0]].items():
        ratio = time_ratio(peers.get("eigencode", []), peers.get(peer, []))
        yield Claim(f"{name}: time to the error of {peer}, over its own", ratio, share)


def step_claims(name, peers, rates):
    """Steps with a penalty or a sparse code over plain ones."""
    for step, target in STEPS.items():
        ratios = [result["ratios"][step] for result in succeeded(peers.get("eigencode", []))]
        yield Claim(f"{name}: {step}, step over plain", statistics.median(ratios) if ratios else math.nan, target)


def encoding_claims(name, peers, rates):
    """Times of results over those of the arithmetic that they need."""
    ours = peers.get("eigencode", [])
    share = median(ours, "rows_per_second") / median(ours, "bare_rows_per_second")
    yield Claim(f"{name}: rows/s over a bare forward pass", share, 0.9, True)


CLAIMS = {
    "a": (speed_claims, time_claims),
    "b": (rate_claims, time_claims),
    "c": (time_claims,),
    "f": (step_claims,),
    "g": (encoding_claims,),
}
"""The claims for each task; other numbers are only reported."""

SHARES = {
    "a": {**dict.fromkeys(LIBRARIES, 0.1), "lean loop": 0.5},
    "b": {**dict.fromkeys(LIBRARIES, 0.2), "lean loop": 0.5},
    "c": {"pyod": 0.1, "keras": 0.1},
}
"""The largest share of a peer's time in which its error must be reached."""

STEPS = {
    "contractive, closed form, one layer of 1000 sigmoids": 1.3,
    "contractive, closed form, 784-512-32": 1.3,
    "contractive, Hutchinson, 784-512-256-32": 2.5,
    "contractive, exact, 784-512-256-32": math.inf,
    "top-k 25 against ReLU, 784-1000": 1.15,
}
"""The longest step over a plain one; the exact norm of a deep encoder is only reported."""


# -- the table and the picture


def number(value, form):
    """A number, or a dash for NaN."""
    return "-" if math.isnan(value) else format(value, form)


def lines(heading, rows):
    """A Markdown table."""
    yield from (" | ".join(("", *row, "")).strip() for row in (heading, ["---"] * len(heading), *rows))


def table(options, found, rates):
    """The results, as Markdown."""
    yield "# Speed compared with peers\n"
    yield (
        f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} "
        f"threads, torch {torch.__version__}, Python {platform.python_version()}; "
        f"rounds: {options.rounds}, medians."
    )
    units = "has" if has_bfloat16_units("cpu") else "has no"
    for precision in ("float32", "bfloat16") if rates else ():
        rate = statistics.median(round_[precision] for round_ in rates) / 1e9
        yield f"Product of 2048 x 2048 matrices in {precision}: {rate:,.0f} GFLOP/s."
    yield f"This processor {units} bfloat16 units.\n"
    if options.quick:
        yield "**--quick: a few rows and epochs, to see that everything runs. No number here means anything.**\n"
    yield "## Targets\n"
    yield from lines(("claim", "found", "target", ""), [claim.row for claim in claims(found, rates)])
    for name, peers in found.items():
        work = WORKS[name]
        if work.kind == "steps":
            continue
        epochs = QUICK[name][0] if options.quick else work.epochs
        yield f"\n## {name}: {work.title}" + ("" if work.kind == "encode" else f", {epochs} epochs") + "\n"
        rows, missing = [], []
        ours = peers.get("eigencode", [])
        for peer, results in peers.items():
            if not succeeded(results):
                missing.append(f"- {peer}: not measured: {results[-1]['failure']}")
                continue
            good = succeeded(results)
            curves = [result["curve"] for result in good if "curve" in result]
            rows.append((
                peer,
                number(median(results, "rows_per_second"), ",.0f"),
                number(share_of_rate(name, results, rates), ".0%"),
                number(statistics.median(last_error(result) for result in good) if curves else math.nan, ".5f"),
                number(statistics.median(curve[-1][0] for curve in curves) if curves else math.nan, ".2f"),
                number(time_ratio(ours, results), ".3f"),
                number(median(results, "import_seconds"), ".2f"),
                number(median(results, "first_fit_seconds"), ".2f"),
                number(median(results, "peak_memory"), ",.0f"),
                good[0].get("precision", "float32"),
            ))  # fmt: skip
        yield from lines(
            ("peer", "rows/s", "of matmul", "error", "s to it", "eigencode's time to it / its own", "import s",
             "first fit s", "peak MB", "precision"), rows,
        )  # fmt: skip
        yield from (["", *missing] if missing else [])
    yield "\n## Settings that are not a peer's own\n"
    yield DEVIATIONS


COLOURS = {
    "eigencode": "#d62728", "lean loop": "#444444", "DataLoader loop": "#999999", "pythae": "#1f77b4",
    "pyod": "#2ca02c", "skorch": "#9467bd", "scikit-learn": "#ff7f0e", "keras": "#17becf",
}  # fmt: skip


def picture(found, path):
    """Bars of rows per second, and error against time if there is one."""
    names = [name for name in found if WORKS[name].kind != "steps"]
    names = [name for name in names if any(succeeded(results) for results in found[name].values())]
    figure, axes = plt.subplots(
        len(names), 2, figsize=(12, 2.9 * len(names)), squeeze=False, layout="constrained", width_ratios=(1, 1.3)
    )
    for name, (left, right) in zip(names, axes, strict=True):
        peers = {peer: results for peer, results in found[name].items() if succeeded(results)}
        speeds = sorted((median(results, "rows_per_second"), peer) for peer, results in peers.items())
        bars = left.barh([peer for _, peer in speeds], [speed for speed, _ in speeds])
        for bar, (_, peer) in zip(bars, speeds, strict=True):
            bar.set_color(COLOURS[peer])
        left.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        left.margins(x=0.2)
        left.locator_params(axis="x", nbins=5)
        left.set_title(f"{name}: {WORKS[name].title}", loc="left", fontsize=10)
        left.set_xlabel("rows per second")
        left.spines[["top", "right"]].set_visible(False)
        for peer, results in peers.items():
            curves = [result["curve"] for result in succeeded(results) if "curve" in result]
            if curves:
                length = min(map(len, curves))
                points = np.median([curve[:length] for curve in curves], axis=0)
                right.plot(*points.T, marker=".", color=COLOURS[peer], label=peer, lw=2.5 if peer == "eigencode" else 1)
        if right.lines:
            right.set(
                xscale="log", yscale="log", xlabel="seconds from the rows in memory", ylabel="held-out error a cell"
            )
            for axis in (right.xaxis, right.yaxis):
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
            right.legend(fontsize=7, ncols=2)
            right.spines[["top", "right"]].set_visible(False)
        else:
            right.set_axis_off()
    figure.savefig(path, dpi=100)


def arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[], metavar="SET=FOLDER", help="mnist=FOLDER, fashion=FOLDER")
    parser.add_argument("--work", nargs="+", help="letters, or names as a-256; all, with --quick a few")
    parser.add_argument("--peers", nargs="+", default=[*PEERS], choices=PEERS, metavar="PEER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=3600, help="seconds for one peer and task")
    parser.add_argument(
        "--quick", action="store_true", help="one round of a few rows of some tasks, for a test of the script"
    )
    parser.add_argument("--environments", type=Path, default=HERE / ".environments")
    parser.add_argument("--output", type=Path, default=Path("speed-results"))
    options = parser.parse_args()
    options.work = options.work or (["a-256", "c-cancer", "f", "g"] if options.quick else [*"abcdefg"])
    unknown = [name for name in options.work if name not in WORKS and name not in "abcdefg"]
    if unknown:
        parser.error(f"no such work: {', '.join(unknown)}")
    given = dict(pair.partition("=")[::2] for pair in options.data)
    if given.keys() - {"mnist", "fashion"}:
        parser.error("--data takes mnist=FOLDER and fashion=FOLDER")
    options.data = given
    if options.quick:
        options.rounds = 1
    return options


def main():
    """Measure, write, and exit with 1 if a target is missed."""
    options = arguments()
    options.environments, options.output = options.environments.resolve(), options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in WORKS if name in options.work or name[0] in options.work]
    with tempfile.TemporaryDirectory() as folder:
        n_encoded = QUICK["g"][1] if options.quick else WORKS["g"].n_rows
        ready = write_rows(Path(folder), options.data, chosen, n_encoded)
        if left_out := [name for name in chosen if name not in ready]:
            print(f"left out, since --data does not say where their rows are: {', '.join(left_out)}")
        if not ready:
            sys.exit("nothing to measure")
        found, rates = rounds(options, ready, [peer for peer in PEERS if peer in options.peers], Path(folder))
    text = "\n".join(table(options, found, rates)) + "\n"
    (options.output / "table.md").write_text(text)
    picture(found, options.output / "speed.png")
    print("\n" + text)
    print(f"written to {options.output}")
    is_missed = any(claim.verdict == "missed" for claim in claims(found, rates))
    sys.exit(1 if is_missed and not options.quick else 0)


if __name__ == "__main__":
    main()
