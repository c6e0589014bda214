"""What the encoder's output means, q(z|x)."""
