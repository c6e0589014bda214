"""Conformance tests for parts: all parts of this package pass them, and your own should.

Each function takes an instance, uses it as training, saving and scoring do, and raises an ``AssertionError`` whose
message says what is required and what was found. They use their own random generators, so that the results of all calls
are the same.
"""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
