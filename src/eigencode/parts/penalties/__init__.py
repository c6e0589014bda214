"""Further terms of the objective, Omega."""
