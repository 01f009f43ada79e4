"""Closed forms of the isotropic model, written out once more."""

import math

import numpy as np
from scipy import integrate


def mean_cosine(temperature, dim):
    """Of the angle to the minimum under exp(cos a/T) on the sphere."""
    a = np.linspace(0, math.pi, 4001)
    weight = np.exp((np.cos(a) - 1) / temperature) * np.sin(a) ** (dim - 2)
    return integrate.simpson(weight * np.cos(a), x=a) / integrate.simpson(weight, x=a)


def finite_step(protocol, eta, lam, dim, sigma):
    """r, p and T/(1 - η_eff/2) of a cell: the radius whose mean square a step keeps, with E|∇L|² = (D - 1) T A(1/T)."""
    r = 1.0
    for _ in range(200):
        rate = eta / r**2 if protocol == "lr" else eta
        t = rate * sigma**2 / 2 / (1 - rate / 2)
        moment = (dim - 1) * (sigma**2 + t * mean_cosine(t, dim))
        if protocol == "lr":
            new = (eta * moment / (2 * lam - eta * lam**2)) ** 0.25
        else:
            new = math.sqrt((1 - math.sqrt(1 - eta**2 * moment)) / (eta * lam))
        if abs(new / r - 1) < 1e-10:
            break
        r = new
    return r, (math.sqrt(1 + eta**2 * moment) - 1) / (eta * r**2), t
