"""Scaling of tables for peers that leave it to their users; images are in [0, 1] already."""


class Scaled:
    """Rows as such a peer is given them, and the way back."""

    def __init__(self, work, rows):
        self.scaler = None
        if work.is_table:
            # Loaded where it is used: what a peer takes to import is measured.
            from sklearn.preprocessing import StandardScaler

            self.scaler = StandardScaler().fit(rows)
        self.rows = self.forward(rows)

    def forward(self, rows):
        """Into the network's units."""
        return rows if self.scaler is None else self.scaler.transform(rows)

    def reconstruct(self, function):
        """A reconstruction of scaled rows as one of rows."""
        if self.scaler is None:
            return function
        return lambda rows: self.scaler.inverse_transform(function(self.forward(rows)))
