"""What the decoder's output means, p(x|z)."""
