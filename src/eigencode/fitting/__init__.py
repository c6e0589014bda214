"""From options and rows to a run that is ready to begin: data, model, start, run."""
