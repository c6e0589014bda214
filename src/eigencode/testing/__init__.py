"""Conformance tests for parts: what every part of this package passes, and one of your own should.

Each function takes an instance, tries it in the ways that training, saving and scoring will, and raises an
``AssertionError`` whose message says what is promised and what was found. They draw from generators of their own, so
that they say the same at every call.
"""

from eigencode.lazy import page

__getattr__, __dir__, __all__ = page(__name__)
