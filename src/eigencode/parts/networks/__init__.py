"""Networks: encoders f and decoders g."""
