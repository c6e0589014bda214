"""Fitted models as graphs for other programs: ONNX and `torch.export`."""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
