"""One worked example for each command's help. They run as they are printed, one after the other."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "demo": ("eigencode demo --output demo",),
    "fit": ("eigencode fit rows.csv --n-components 2 --output model.safetensors",),
    "sweep": ("eigencode sweep rows.csv --over n_components=1,2 --output best.safetensors",),
    "transform": ("eigencode transform model.safetensors rows.csv --output codes.csv",),
    "decode": ("eigencode decode model.safetensors codes.csv --output decoded.csv",),
    "reconstruct": ("eigencode reconstruct model.safetensors rows.csv --output rebuilt.csv",),
    "score": ("eigencode score model.safetensors rows.csv --output scores.csv",),
    "sample": (
        "eigencode fit rows.csv --kind variational --output generator.safetensors",
        "eigencode sample generator.safetensors --n-rows 100 --output drawn.csv",
    ),
    "predict": ("eigencode predict classifier.safetensors rows.csv --output labels.csv",),
    "describe": ("eigencode describe model.safetensors",),
}
"""The lines to type, by command; none is longer than a terminal of 80 columns, where it would be broken.

The classifier that predict reads is one that Python saved.
"""


def example(command: str) -> str:
    """A command's example, as its help shows it."""
    return "Example:\n\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])
