"""What notebook 04 measures at its checked parameters, and what results.nc keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import xarray as xr

from thermolab.engine.schedules import STAGES
from thermolab.engine.traces import prefixed
from thermolab.phenomena.common import presets
from thermolab.phenomena.neuron_balance import ablation, architectures, clock, deep, linear, networks, twins

EVEN = {"arm": "mlp", "task": "digits", "directions": 4}
TRAINED = {  # those first that take longest, so that no worker waits for the last one
    "transformer": {"arm": "transformer"},
    "resnet": {"arm": "resnet"},
    "cnn": {"arm": "cnn"},
    "cnn_tanh": {"arm": "cnn_tanh"},
    "mlp": {"arm": "mlp", "task": "teacher"},
    "mlp_digits": {"arm": "mlp", "task": "digits"},
    "mlp_even": EVEN,
    "mlp_adam": EVEN | {"optimiser": "adam", "eta": 0.01},
    "mlp_adagrad": EVEN | {"optimiser": "adagrad", "eta": 0.05},
    **{name: clock.SKEW | more for name, more in clock.RUNS.items()},
}
BRIEF = {"steps": 200, "logs": 4, "copies": 1, "warm_up": 0}  # at preset smoke
POINT_STEPS = {"lab": 20_000, "smoke": 4000}  # at the working point


def datasets(setup) -> dict:
    """{name: recipe with its settings}, nothing of which has run; "linear" holds one for each profile of the noise.

    The working point, "here", takes a number of steps that does not depend on η and B: at a small η it is not in balance yet.
    """
    common = presets.common(setup, smoke=3)

    def measured(recipe, smoke: dict, **lab):
        return partial(recipe, **common, **(lab | smoke if setup.preset == "smoke" else lab))

    equal = [(eta, ablation.BATCH_SIZE) for eta in ablation.RATES]
    few, brief = {"logs": 6, "copies": 2}, {"burn_in": 2000, "window": 500, "decay": 500}
    here = {"arms": ((setup.eta, setup.batch_size),), "lams": (setup.lam,), "sigma": setup.noise_std}
    here["span"] = POINT_STEPS[setup.preset] * setup.eta**2 / setup.batch_size
    # more inputs than outputs: |u| and |w| differ in balance, so that weight decay has something to shift
    wide = {"arms": ((0.04, 8),), "lams": (0.0, 0.02, 0.06), "d_x": 8, "width": 3, "d_y": 3}
    long = {"span": 4.0, "moments": 12, "copies": 8}
    # η/B is so large that τ is seen; the norms of the layers do not matter here
    noisy = {"eta": 0.05, "batch_size": 8, "burn_in": 8000, "window": 40_000, "decay": STAGES, "copies": 8}
    return {
        "relu": measured(networks.relu, few | {"span": 0.2}, arms=networks.ARMS),
        "tanh": measured(networks.relu, few | {"span": 0.2}, arms=networks.ARMS[:1], activation="tanh"),
        "decayed": measured(networks.relu, few | {"span": 0.5}, **wide, **long),
        "here": measured(networks.relu, few, **here),
        **{name: measured(architectures.train, BRIEF, **more) for name, more in TRAINED.items()},
        "rates": {
            f"{eta:g}": measured(networks.relu, {}, arms=((eta, ablation.BATCH_SIZE),), span=span, copies=2, **ablation.NETWORK)
            for eta in ablation.RATES
            for span in [ablation.STEPS * eta**2 / ablation.BATCH_SIZE]
        },
        "clock": measured(networks.relu, {}, arms=equal, span=ablation.SPAN, logs=4, copies=2, **ablation.NETWORK),
        "alike": measured(twins.alike, {"copies": 2, "steps": 400}),
        "thresholded": measured(linear.linear, {"burn_in": 1000, "window": 2000, "copies": 1}, target=linear.SPECTRUM, **noisy),
        "linear": {name: measured(linear.linear, brief, profile=profile) for name, profile in linear.PROFILES.items()},
        "matrix": measured(deep.matrix, {"steps": 2000, "logs": 5, "moments": 4}),
        "twins": measured(twins.twins, {"steps": 100}),
    }


def traces(found: Mapping) -> xr.Dataset:
    """What results.nc keeps: every dataset under its name, and the working point.

    Of that log_ratio, log_ratio_pred (see `networks.predicted`), g2_in, g2_out and what remains of the imbalance, over time in
    units of η² t/B, stand there under these names.
    """
    names = ("relu", "tanh", "decayed", "thresholded", "twins", "alike", "clock", *TRAINED)
    data = {name: found[name].reset_coords() for name in names}
    data["linear"] = xr.concat(found["linear"].values(), "profile")
    data["rates"] = xr.concat(found["rates"].values(), "arm")
    data["matrix"] = deep.residual(found["matrix"]).to_dataset(name="residual")
    here = found["here"]
    point = here[["g2_in", "g2_out"]].assign(log_ratio=networks.log_ratio(here), remaining=networks.remaining(here))
    point["log_ratio_pred"] = networks.predicted(here)["log_ratio"]
    return xr.Dataset(prefixed(data) | dict(point.isel(arm=0, drop=True).data_vars))
