"""Encoders and decoders, f and g."""
