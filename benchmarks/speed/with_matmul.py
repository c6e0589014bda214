"""The machine's rate: products of two 2048 x 2048 matrices, in float32 and bfloat16."""

import statistics
import time

import torch

SIZE, ROUNDS = 2048, 5


def rates():
    """Operations a second of each precision, by the median of some products."""
    return {str(dtype).removeprefix("torch."): _rate(dtype) for dtype in (torch.float32, torch.bfloat16)}


def _rate(dtype):
    a, b = torch.randn(SIZE, SIZE).to(dtype), torch.randn(SIZE, SIZE).to(dtype)
    found = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        a @ b
        found.append(time.perf_counter() - began)
    return 2 * SIZE**3 / statistics.median(found[1:])
