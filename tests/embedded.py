"""A small embedded linear network, and made-up tables of CKA, for the tests of several modules."""

import numpy as np

from thermolab.phenomena.platonic_alignment import networks
from thermolab.systems import embedded_linear

DATA = {"spectrum": (1.2, 0.8), "noise": (1.0, 0.6), "inputs": (1.3, 1.0, 0.7)}
TINY = DATA | {"eta": 0.03, "batch_size": 8, "n_seeds": 2}


def case(depth=3, width=4, seed=0):
    """V, a view, and random weights in float64."""
    v, view = embedded_linear.target(DATA["spectrum"], 3, seed=seed), embedded_linear.view(3, 2, seed=seed)
    return v, view, embedded_linear.gaussian((3, *[width] * (depth - 1), 2), 0.5, seed)


def product(view, matrices):
    """M_out W_L … W_1 M_in Z."""
    return np.linalg.multi_dot([view.answers, *matrices[::-1], view.inputs])


LAYERS = networks.layers(2, 3)


def table(worst, other=1.0, spread=1e-4):
    """CKA [seed, layer, other] of A0 A1 A2 B0 B1 B2 B3: `worst` for hidden pairs, `other` for all else but the diagonal."""
    values = np.full((5, 7, 7), other)
    hidden = LAYERS["hidden"][1]
    values[:, np.outer(hidden, hidden)] = worst
    values = values + spread * np.linspace(-1, 1, 5)[:, None, None]
    values[:, np.arange(7), np.arange(7)] = 1
    return values
