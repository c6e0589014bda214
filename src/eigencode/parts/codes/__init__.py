"""Codes: the distribution q(z|x) given the encoder's output."""
