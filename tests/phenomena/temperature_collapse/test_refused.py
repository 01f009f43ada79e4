"""Settings that no recipe of the phenomenon takes are refused in one line, with name, value and what is allowed."""

import math

import pytest

from thermolab.phenomena.temperature_collapse import (
    convnets,
    falling,
    metastable,
    ordinary,
    plateau,
    stationary,
    theory,
    toy,
    training,
)  # fmt: skip

OP_RATES = training.RATES
POSITIVE, WHOLE = "a list of 1 or more, each a positive number", "a whole number, 1 or more"
OF_NETWORKS = [
    ({"rates": (0.1, -0.1)}, f"rates=(0.1, -0.1) is not positive and finite; allowed: {POSITIVE}"),
    ({"rates": (0.0, 0.1)}, "rates=(0.0, 0.1) is not positive"), ({"rates": (math.nan, 0.1)}, "rates=(nan, 0.1) is not a number"),
    ({"rates": (math.inf, 0.1)}, "rates=(inf, 0.1) is not positive and finite"), ({"rates": 0.1}, "rates=0.1 is not a list"),
    ({"rates": ((0.1, 0.2),)}, "rates=((0.1, 0.2),) is not a number"), ({"rates": (*OP_RATES, -1.0)}, "-1.0) is not positive"),
    ({"width": 1}, "width=1 is out of range; allowed: a whole number, 4 or more"),
    ({"norm": "group"}, "norm='group' is unknown; allowed: one of batch, layer"),
    ({"label_noise": 1.5}, "label_noise=1.5 is out of range; allowed: a number from 0 to 1"),
    ({"n_data": 0}, f"n_data=0 is out of range; allowed: {WHOLE}"),
    ({"n_data": 5000}, "n=5000 images asked for; allowed: 1 to 1797"),
    ({"batch_size": 0}, f"batch_size=0 is out of range; allowed: {WHOLE}"),
    ({"samples": 3}, "samples=3 is out of range; allowed: a whole number, 4 or more"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("recipe", "settings", "text"),
    [
        *((recipe, *row) for recipe in (stationary.stationary, stationary.optimised, training.training) for row in OF_NETWORKS),
        (stationary.optimised, {"optimiser": "lion"}, "optimiser='lion' is unknown; allowed: one of momentum, adam"),
        (convnets.convnets, {"arms": ("deep",)}, "arms=('deep',) is unknown; allowed: a list of 1 or more, each one of narrow"),
        (toy.stationary, {"points": theory.OVER}, "some w fits all points, so U goes to 0 and nothing is stationary"),
        (toy.stationary, {"eta": (1e-9,)}, "steps to relax at eta=1e-09 exceed 1000000; raise the lowest rate"),
        (falling.converging, {"records": 4}, "records=4 is out of range; allowed: a whole number, 8 or more"),
        (falling.converging, {"steps": 10}, "steps=10 is too few; allowed: records=40 or more"),
        (ordinary.ordinary, {"rates": (0.1, 0.2)}, "rates=(0.1, 0.2) has a length that is out of range; allowed: a list of 3"),
        (ordinary.ordinary, {"rates": (0.1, 0.3, 0.2)}, "rates=[0.1, 0.3, 0.2] do not ascend; allowed: three or more"),
        (ordinary.ordinary, {"lam": 0.0}, "lam=0.0 is not positive and finite; allowed: a positive number"),
        (ordinary.ordinary, {"window": 60}, "window=60 is too short; allowed: 120 steps or more at samples=100"),
        (ordinary.ordinary, {"width": 2}, "width=2 is out of range; allowed: a whole number, 3 or more"),
        (plateau.plateau, {"rates": (0.1, 0.2)}, "rates=(0.1, 0.2) has a length that is out of range; allowed: a list of 3"),
        (
            plateau.plateau,
            {"rates": (0.1, 0.2, 0.3)},
            "rates=(0.1, 0.2, 0.3) is out of range; allowed: a list of 3 or more, each",
        ),
        (plateau.plateau, {"windows": 3}, "windows=3 is out of range; allowed: a whole number, 4 or more"),
        (plateau.plateau, {"replicas": 1}, "replicas=1 is out of range; allowed: a whole number, 2 or more"),
        (plateau.plateau, {"rates": (0.2, 0.22, 0.25), "batch_size": 1}, "eta=0.2 diverges at batch_size=1; allowed: below 1/(1"),
        (metastable.metastable, {"rates": (0.1,)}, "rates=(0.1,) has a length that is out of range; allowed: a list of 2"),
        (metastable.metastable, {"rates": (0.1, 0.3)}, "rates=(0.1, 0.3) is out of range; allowed: a list of 2 or more, each"),
        (metastable.metastable, {"length": 40.0}, "length=40.0 is out of range; allowed: a number from 48"),
        (metastable.metastable, {"replicas": 1}, "replicas=1 is out of range; allowed: a whole number, 2 or more"),
        (metastable.metastable, {"batch_size": 0}, f"batch_size=0 is out of range; allowed: {WHOLE}"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(recipe, settings, text):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as error:
        recipe.run(**{"n_seeds": 1} | settings)
    assert text in str(error.value)
