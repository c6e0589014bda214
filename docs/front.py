"""Draws front.png and front-dark.png, the picture of the front page and of README, from titanic.csv.

    python docs/front.py

All three parts show passengers that were not fitted: every third one is kept aside.
"""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eigencode import AnomalyDetector, Autoencoder

DOCS = Path(__file__).parent
BLUE, ORANGE, RED, GREY = "#3f90da", "#ffa90e", "#e42536", "#94a4a2"
BELOW = {
    "fontsize": 8,
    "frameon": False,
    "loc": "upper center",
    "bbox_to_anchor": (0.5, -0.08),
}


def map_of_codes(axes: Axes, model: Autoencoder, new: pd.DataFrame) -> None:
    """Show each passenger as a point at the two numbers of the code."""
    codes = model.transform(new)
    for name, color in zip(
        ["First", "Second", "Third"], [BLUE, ORANGE, RED], strict=True
    ):
        for sex, marker in [("female", "o"), ("male", "^")]:
            rows = ((new["class"] == name) & (new["sex"] == sex)).to_numpy()
            label = f"{name}, {sex}"
            axes.scatter(
                *codes[rows].T,
                s=22,
                color=color,
                marker=marker,
                alpha=0.8,
                lw=0,
                label=label,
            )
    axes.legend(ncols=3, handletextpad=0.1, columnspacing=0.8, **BELOW)
    axes.set_title("15 columns in two numbers")
    axes.set_xticks([])
    axes.set_yticks([])


def gaps_filled(
    axes: Axes, model: Autoencoder, new: pd.DataFrame, known: pd.DataFrame
) -> None:
    """Show how many labels are right, of those hidden in three tenths of all cells."""
    hidden = new.mask(np.random.default_rng(0).random(new.shape) < 0.3)
    filled = model.impute(hidden)
    names = ["sex", "class", "survived", "embark_town", "deck"]
    cells = {name: hidden[name].isna() & new[name].notna() for name in names}
    ours = [(filled[name] == new[name])[cells[name]].mean() for name in names]
    most_frequent = [
        (new[name] == known[name].mode()[0])[cells[name]].mean() for name in names
    ]
    heights = -np.arange(len(names))
    axes.barh(heights + 0.2, ours, height=0.38, color=BLUE, label="filled by the model")
    axes.barh(
        heights - 0.2,
        most_frequent,
        height=0.38,
        color=GREY,
        label="the most frequent value",
    )
    axes.set_yticks(heights, names)
    axes.set_xlim(0, 1)
    axes.legend(ncols=2, **BELOW)
    axes.set_title("Gaps filled: share of right labels")


def odd_row(axes: Axes, detector: AnomalyDetector, new: pd.DataFrame) -> None:
    """Show why the most unusual passenger is unusual."""
    row = new.iloc[[np.argmin(detector.score_samples(new))]]
    reasons = detector.explain(row, n_columns=5)
    reasons = reasons[reasons["direction"] != "as expected"]
    heights = -np.arange(len(reasons))
    axes.barh(heights, reasons["contribution"], height=0.6, color=RED)
    axes.set_yticks(heights, reasons["column"])
    for number, reason in enumerate(reasons.itertuples()):
        axes.text(
            reason.contribution + 0.2, -number, written(reason), va="center", fontsize=8
        )
    axes.set_xlim(0, 1.75 * reasons["contribution"].max())
    axes.set_xlabel("what the column adds to the score, in nats", fontsize=8)
    axes.set_title("The oddest row, and why")


def written(reason: Any) -> str:
    """Return what was observed in a cell, and what is expected."""
    observed, expected = (
        f"{cell:.0f}" if isinstance(cell, float) else str(cell)
        for cell in (reason.observed, reason.expected)
    )
    return (
        f"{'a gap' if reason.direction == 'missing' else observed}, expected {expected}"
    )


def draw(
    path: Path,
    ink: str,
    model: Autoencoder,
    detector: AnomalyDetector,
    new: pd.DataFrame,
    known: pd.DataFrame,
) -> None:
    """Draw the three parts on a page of any colour, with text and axes of another."""
    names = (
        "text.color",
        "axes.labelcolor",
        "axes.edgecolor",
        "xtick.color",
        "ytick.color",
    )
    with matplotlib.rc_context(dict.fromkeys(names, ink)):
        figure = Figure(figsize=(11, 3.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        map_of_codes(left, model, new)
        gaps_filled(middle, model, new, known)
        odd_row(right, detector, new)
        for axes in (left, middle, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=9, length=0)
            axes.title.set(fontsize=11, fontweight="bold")
        figure.savefig(path, dpi=110, transparent=True, pil_kwargs={"optimize": True})
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Fit the models and draw."""
    people = pd.read_csv(DOCS / "titanic.csv")
    new, known = people[::3], people.drop(people.index[::3])
    model = Autoencoder(2, random_state=0).fit(known)
    detector = AnomalyDetector(random_state=0).fit(known)
    for name, ink in {"front": "black", "front-dark": "#e6edf3"}.items():
        draw(DOCS / "_static" / f"{name}.png", ink, model, detector, new, known)


if __name__ == "__main__":
    main()
