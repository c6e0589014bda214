"""From scores to alarms: p-values, tails and nearest rows; knows no autoencoder."""
