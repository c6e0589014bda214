"""Training: an explicit state, and a generator that moves it one epoch at a time."""
