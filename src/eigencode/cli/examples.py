"""An example for the help of each command; they can be run as printed, in this order."""

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
"""Lines to type, by command. None is longer than 80 columns, so that no terminal breaks it.

The classifier that predict reads was saved in Python.
"""


def example(command: str) -> str:
    """The example in the help of a command."""
    return "Example:\n\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])
