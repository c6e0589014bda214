"""Likelihoods: the distribution p(x|z) given the decoder's output."""
