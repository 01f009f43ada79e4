"""A phenomenon for the tests of `thermolab check`. In a file of its own, for workers import it by name."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import xarray as xr

from thermolab.claims import Decision, few_seeds, with_control
from thermolab.engine.experiment import DivergenceError
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positives


@recipe("toys")
def means(rates: Positives = (0.1, 0.2), *, size: Count = 50, seed: int = 0, device: str = "cpu") -> xr.Dataset:
    """Means of `size` uniform numbers about a half, scaled by each rate, (eta, seed): mean."""
    if size == 13:
        raise ValueError("size=13 does not go with these rates; allowed: any other")
    if size == 14:
        raise DivergenceError("eta=0.1: |w| grew past 1e12 at step 3")
    rng = np.random.default_rng(seed)
    return xr.Dataset({"mean": ("eta", [rate * rng.random(size).mean() for rate in rates])}, coords={"eta": list(rates)})


def half(toys: xr.Dataset) -> Decision:
    scaled = toys["mean"] / toys["eta"]
    return with_control(few_seeds(scaled.mean("eta")), few_seeds(2 * scaled.mean("eta")), 0.25, "twice as large", predicted=0.5)


def datasets(setup) -> dict:
    common = {"seed": setup.seed, "device": setup.device}
    return {"toys": partial(means, (setup.eta, 2 * setup.eta), n_seeds=4, **common), "never": partial(means, n_seeds=10**9)}


presets = SimpleNamespace(datasets=datasets)
