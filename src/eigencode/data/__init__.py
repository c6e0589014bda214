"""Data: rows in, numbers out. Knows no autoencoder."""
