"""Any network at the working point and at rates around it, each seed from a start of its own; and what a single run decides.

Tolerances stand here once and do not move with the data. IDENTITY: 1 % of η²|g|², what the ε of a usual norm leaves of an
identity that is exact without it. RADIUS: 5 %, to which a window of a few relaxation times is stationary. THERMOMETER: 10 %, as
in notebooks 02 and 03. BALANCE: 0.1 of a log ratio, as in notebook 04. Of several groups or pairs the one furthest off decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from thermolab.claims import Decision, Estimate, NotApplicable, decides, few_seeds, pick, with_control
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, NotNegative, Positive, Positives
from thermolab.phenomena.your_network import networks, theory
from thermolab.phenomena.your_network.measure import Plan, measure

IDENTITY, RADIUS, THERMOMETER, BALANCE = 0.01, 0.05, 0.1, 0.1
READS = ("burn_in", "window", "early")


@recipe("training of {network}", dims=("eta", "seed"))
def trained(
    network: str = "mlp",
    *,
    images: Literal["digits", "synthetic"] = "digits",
    eta: Positive = 0.2,
    factors: Positives = (1.0,),
    lam: NotNegative = 0.01,
    batch_size: Count = 16,
    plan: Plan,
    seeds: Sequence[int],
    device: str = "cpu",
) -> xr.Dataset:
    """Plain SGD on a network of the menu, or of a file ("FILE.py:FUNCTION"), at the rates factors × η; see `measure.measure`.

    images: what a network of the menu learns, 512 of them with 30 % of labels drawn anew. Each seed has a start of its own,
    that of the module; all learn the same data. burn_in, window, early: steps; moments, probe, samples: as in `measure.Plan`.

    Returns what `measure` does, with dims (eta, seed) in place of replica. NaN where a run diverged.
    Raises ValueError, one line, for a network that cannot be made or does not go with its data.
    """
    made, rates = networks.find(network, images), eta * np.asarray(factors)
    weights = made.starts(seeds).repeat(len(rates), 1)
    found = measure(
        made.system, weights, np.repeat(rates, len(seeds)), lam, batch_size, plan, seed=seeds[0] // 1000, device=device
    )
    return arranged(found, rates, seeds)


def arranged(found: xr.Dataset, rates: Sequence[float], seeds: Sequence[int]) -> xr.Dataset:
    """What `measure` found of replicas, rate by rate, with dims (eta, seed) in place of replica."""
    values = {}
    for name, v in found.data_vars.items():
        rest = [d for d in v.dims if d != "replica"]
        v = v.transpose("replica", *rest)
        values[name] = (("eta", "seed", *rest), v.values.reshape(len(rates), len(seeds), *v.shape[1:]))
    kept = {name: c for name, c in found.coords.items() if name != "eta"}
    return xr.Dataset(values, {"eta": list(rates), "seed": list(seeds)} | kept, found.attrs)


# --- what is decided ----------------------------------------------------------------------------------------------------
def plain(*data: xr.Dataset, decayed: bool = False) -> str:
    """Why steps that are not those of plain SGD decide nothing; "" where they are. decayed: weight decay is needed too."""
    for d in data:
        if d.attrs["optimiser"] != "sgd":
            return f"steps of {d.attrs['optimiser']}; the claim is about plain SGD"
        if d.attrs["protocol"] != "lr":
            return f"weights on a {d.attrs['protocol']} protocol; the claim is about free ones"
        if not d.attrs["replacement"]:
            return "batches without replacement; the claim is about independent ones"
        if decayed and not d.attrs["lam"]:
            return "no weight decay: |w| grows for ever"
    return ""


def point(data: xr.Dataset) -> xr.Dataset:
    """The working point, the middle one of the rates."""
    return data.isel(eta=data.sizes["eta"] // 2)


def invariant(data: xr.Dataset, yes: bool = True) -> xr.Dataset:
    """The scale-invariant groups, or all others."""
    return data.isel(group=np.flatnonzero(data["invariant"].values == yes))


def rescalable(data: xr.Dataset, yes: bool = True) -> xr.Dataset:
    """The rescalable pairs, or the neighbours that are none."""
    return data.isel(pair=np.flatnonzero((data["reason"].values == "") == yes))


def extreme(values: xr.DataArray, over: str, choose: Callable = max) -> Estimate:
    """The largest (or least) distance from 0 of the means over seeds, over a dimension."""
    rows = (few_seeds(row) for row in values.transpose(over, "seed").values)
    found = pick(choose, rows, key=lambda mean: abs(mean.value))
    return found._replace(value=abs(found.value))


def _all(values: Iterable[xr.DataArray], reduce: Callable) -> float:
    return float(reduce(np.concatenate([v.values.ravel() for v in values])))


@decides("general.noether", reads=READS)
def identities(trained: xr.Dataset) -> Decision | NotApplicable:
    """Largest error of the identity at a step; control: the least of groups and neighbours that have no symmetry."""
    here = point(trained)
    if why := _no_symmetry(here) or here.attrs.get("no_groups") or plain(here):
        return NotApplicable(why)
    right = [invariant(here)["identity"], rescalable(here)["pair_identity"]]
    wrong = [invariant(here, False)["identity"], rescalable(here, False)["pair_identity"]]
    if not sum(part.size for part in wrong):
        return NotApplicable("every weight has a symmetry: there is no control")
    measured = Estimate(_all(right, np.max), 0.0, here.sizes["seed"])
    return with_control(measured, (_all(wrong, np.min), 0.0), IDENTITY, "groups and neighbours without a symmetry")


def _no_symmetry(here: xr.Dataset) -> str:
    if invariant(here).sizes["group"] or rescalable(here).sizes["pair"]:
        return ""
    why = "; ".join(filter(None, (here.attrs.get("no_groups"), here.attrs["no_pairs"])))
    return "no layer is scale-invariant, and no pair was found" + (f": {why}" if why else "")


@decides("general.radius", reads=READS)
def radius(trained: xr.Dataset) -> Decision | NotApplicable:
    """log of η⟨|g|²⟩/((2λ − ηλ²)⟨|w|²⟩) of the group furthest off; control: of the nearest that is not scale-invariant."""
    here = point(trained)
    if why := plain(here, decayed=True):
        return NotApplicable(why)
    if not invariant(here).sizes["group"]:
        return NotApplicable(here.attrs.get("no_groups") or "no layer is scale-invariant")
    ratio = _radius(invariant(here), "")
    if not invariant(here, False).sizes["group"]:
        other = extreme(np.log(_radius(here, "_early")), "group")
        return with_control(extreme(np.log(ratio), "group"), other, RADIUS, "the first steps")
    free = extreme(np.log(_radius(invariant(here, False), "")), "group", min)
    return with_control(extreme(np.log(ratio), "group"), free, RADIUS, "weights that are not scale-invariant")


def _radius(here: xr.Dataset, when: str) -> xr.DataArray:
    return theory.radius_ratio(here["eta"], here.attrs["lam"], here[f"g2{when}"], here[f"w2{when}"])


@decides("general.stationarity", reads=READS)
def stationary(trained: xr.Dataset) -> Decision | NotApplicable:
    """2⟨w·(∇L + λw)⟩/(η⟨|g + λw|²⟩) of all free weights, less 1; control: the first steps."""
    here = point(trained)
    if why := plain(here):
        return NotApplicable(why)
    if not invariant(here, False).sizes["group"]:
        return NotApplicable("all weights are scale-invariant: about 0 the thermometer is the radius law")
    late, early = (few_seeds(here[f"pull{when}"] / here[f"drive{when}"] - 1) for when in ("", "_early"))
    return with_control(late, early, THERMOMETER, "the first steps")


@decides("general.balance", reads=READS)
def balanced(trained: xr.Dataset) -> Decision | NotApplicable:
    """log ratio of E|g_w|² and E|g_u|², less what the decay shifts, of the pair furthest off; control: neighbours,
    of which one at least must be off."""
    here = point(trained)
    if why := plain(here) or here.attrs["no_pairs"]:
        return NotApplicable(why)
    if not rescalable(here).sizes["pair"]:
        return NotApplicable("no weights can be rescaled against others")
    late = extreme(balance(rescalable(here), ""), "pair")
    if rescalable(here, False).sizes["pair"]:
        return with_control(late, extreme(balance(rescalable(here, False), ""), "pair"), BALANCE, "neighbours that are no pair")
    return with_control(late, extreme(balance(rescalable(here), "_early"), "pair"), BALANCE, "the first steps")


def balance(here: xr.Dataset, when: str) -> xr.DataArray:
    gradients, radii = ((here[f"{a}{when}"], here[f"{b}{when}"]) for a, b in (("g2_in", "g2_out"), ("in2", "out2")))
    return theory.balance(here["eta"], here.attrs["lam"], gradients, radii)


@decides("general.alike", reads=READS)
def alike(trained: xr.Dataset) -> Decision | NotApplicable:
    """By how much the CKA of what the last layer reads, between seeds, exceeds that at the start; control: samples shuffled."""
    here = point(trained)
    if not np.isfinite(here["cka_start"]).any():
        return NotApplicable("what the last layer reads at the start is the same for all samples")
    if (here["cka_start"] > 1 - 1e-6).any():
        return NotApplicable("some seeds start from the same weights, alike before a step is taken")
    end, null = (few_seeds(here[name] - here["cka_start"]) for name in ("cka", "cka_null"))
    return with_control(end, null, 0.0, "the samples of one of them shuffled", relation="above")
