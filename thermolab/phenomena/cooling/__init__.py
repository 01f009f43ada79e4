"""Cooling: training as an exchange of energy and entropy (notebook 01, document 0)."""
