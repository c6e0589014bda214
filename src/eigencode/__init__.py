"""eigencode: autoencoders on PyTorch."""

from eigencode.lazy import let_waiting_threads_sleep, page

let_waiting_threads_sleep()
__getattr__, __dir__, __all__ = page(__name__)
