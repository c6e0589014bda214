"""Penalties: further terms Omega of the objective."""
