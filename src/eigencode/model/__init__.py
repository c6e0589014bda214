"""The formula and what follows from it: composition, objective, initialisation, Jacobians, densities of codes."""
