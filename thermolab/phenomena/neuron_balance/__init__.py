"""Neuron balance: equipartition of squared gradients (document 4, part 2, and document 2). The notebook is still to come."""
