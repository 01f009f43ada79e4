"""How people use thermolab: checked parameters, figures, tables, saved results, batch runs and the book."""
