"""Platonic alignment (document 4, part 3, and document 2). The notebook is still to come."""
