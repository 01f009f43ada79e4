"""The ablation table of document 2: strength of balance at η = 0.1, 0.01, 0.001 and in the limit of 0, and what it grades.

Linear networks of two layers, from starts off balance (`networks.relu`). Strength is the share of the imbalance at the start
that is gone at the end. In as many steps t it is 1 - exp(-t/τ) with τ of `theory.relaxation_steps`, which goes as 1/η².

GRADE, the tolerance, stands here once and does not move with the data: grades that are told apart differ by a quarter.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, pick, with_control
from thermolab.phenomena.neuron_balance import networks, theory

RATES, PRINTED = (0.1, 0.01, 0.001), ("strong", "moderate", "weak")
BATCH_SIZE, STEPS, SPAN = 8, 3000, 0.025  # the table is taken after so many steps; its control at this η²t/B
NETWORK = {"activation": "linear", "d_x": 5, "width": 4, "d_y": 5, "strength": 0.5, "spread": 0.4, "sigma": 1.0}
GRADE = 0.25


def gone(data: xr.Dataset) -> np.ndarray:
    """The share of the imbalance at the start that is gone at the end [seed, arm]."""
    return 1 - networks.remaining(data).isel(time=-1).values


def table(runs: Mapping[str, xr.Dataset]) -> np.ndarray:
    """The same of datasets of one arm each [seed, rate], the largest rate first."""
    return np.concatenate([gone(runs[key]) for key in sorted(runs, key=float, reverse=True)], 1)


def known(rates, steps: int) -> np.ndarray:
    """What linear theory says of the share, for the settings of this file; near balance."""
    tau = theory.relaxation_steps(np.asarray(rates), BATCH_SIZE, NETWORK["sigma"], NETWORK["d_x"], NETWORK["d_y"])
    return 1 - np.exp(-steps / tau)


def least_step(shares: np.ndarray):
    """By how much the strength falls from a rate to the next smaller one, where it falls least."""
    return pick(min, map(few_seeds, (shares[:, :-1] - shares[:, 1:]).T))


@decides("balance.eta.table", reads=["strength", "spread", "width", "d_x", "d_y"])
def graded(rates: Mapping[str, xr.Dataset], clock: xr.Dataset) -> Decision:
    """The least fall of strength from rate to rate after as many steps; control: at equal η²t/B."""
    name = "the same rates at equal η²t/B"
    return with_control(least_step(table(rates)), least_step(gone(clock)), 0.0, name, GRADE, "above")
