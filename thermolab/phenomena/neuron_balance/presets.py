"""What each preset of notebook 04 measures: keyword arguments of the recipes. What is empty is their default, preset lab."""

from __future__ import annotations

from functools import partial

from thermolab.phenomena.common import presets

RECIPES = ("activations", "decayed", "profiles", "thresholded", "matrix", "architectures", "twins")
LONGEST_FIRST = ("transformer", "cnn", "tanh", "resnet", "mlp")  # so that no worker waits for the last one
SIZES: dict[str, dict[str, dict]] = {
    "lab": {name: {} for name in RECIPES} | {"architectures": {"arms": LONGEST_FIRST}},
    "smoke": {
        "activations": {"span": 0.2, "logs": 6, "copies": 2},
        "decayed": {"span": 0.5, "logs": 6, "copies": 2},
        "profiles": {"burn_in": 2000, "window": 500, "decay": 500},
        "thresholded": {"burn_in": 1000, "window": 2000, "copies": 1},
        "matrix": {"steps": 2000, "logs": 5, "moments": 4},
        "architectures": {"steps": 200, "logs": 4, "copies": 1},
        "twins": {"steps": 100},
    },
}
POINT_STEPS = {"lab": 20_000, "smoke": 4000}  # at the working point
n_seeds = partial(presets.n_seeds, smoke=3)


def point(setup) -> dict:
    """Settings of `networks.relu` for the working point of a notebook's checked parameters.

    The number of steps does not depend on η and B: at a small η the networks are not there yet.
    """
    span = POINT_STEPS[setup.preset] * setup.eta**2 / setup.batch_size
    own = {"arms": ((setup.eta, setup.batch_size),), "lams": (setup.lam,), "sigma": setup.noise_std, "span": span}
    return SIZES[setup.preset]["activations"] | own
