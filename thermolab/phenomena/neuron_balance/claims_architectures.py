"""The claims of notebook 04 on pairs of layers in whole architectures, decided from the datasets of `architectures`.

Tolerances stand here once and do not move with the data:

* Balance: 0.1 in log(E|g_w|²/E|g_u|²), what the summary (document 2) states for its ConvNet; the same for the others.
* The Noether identity: 1e-10 of η² (|g_u|² + |g_w|²), rounding in float64 with room for |w| ≫ η |g|.
* Permuted trajectories: 1e-10 of the distance travelled: rounding in float64 (another order of summation), grown along the path.

The last three tenths of the time count as the end. Of several pairs the one furthest off decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import xarray as xr

from thermolab.claims import Pair, few_seeds, with_control

BALANCE, IDENTITY, PERMUTED = 0.1, 1e-10, 1e-10
END = 0.3  # share of the time
NETWORKS = ("mlp", "cnn", "resnet", "transformer")
SHORT, ACROSS = "missing bias", "skip connection"

Runs = Mapping[str, xr.Dataset]


def log_ratios(data: xr.Dataset, first: float = 1 - END, last: float = 1.0) -> xr.DataArray:
    """log(E|g_w|²/E|g_u|²) (pair, seed) over the windows between two shares of the time, at least one window."""
    n = data.sizes["time"]
    begin = min(round(first * n), n - 1)
    part = data.isel(time=slice(begin, max(round(last * n), begin + 1))).mean("time")
    return np.log(part["w2"] / part["u2"]).transpose("pair", "seed")


def rescalable(data: xr.Dataset) -> xr.Dataset:
    """The pairs among the rows of a dataset."""
    return data.isel(pair=np.flatnonzero(data["reason"].values == ""))


def rejected(data: xr.Dataset, reason: str = "") -> xr.Dataset:
    """The neighbours that are no pairs, all or those for a reason."""
    return data.isel(pair=[i for i, r in enumerate(data["reason"].values) if r and reason in str(r)])


def named(data: xr.Dataset, *ends: str) -> xr.Dataset:
    """Rows whose names end in one of `ends`."""
    return data.isel(pair=[i for i, name in enumerate(data["pair"].values) if str(name).endswith(ends)])


def furthest(ratios: Iterable[np.ndarray]) -> tuple[float, float]:
    """Mean and error over seeds of the log ratio [seed] furthest from 0, as a distance."""
    mean, error = max(map(few_seeds, ratios), key=lambda found: abs(found[0]))
    return abs(mean), error


def nearest(ratios: Iterable[np.ndarray]) -> tuple[float, float]:
    """The same of the log ratio nearest to 0."""
    mean, error = min(map(few_seeds, ratios), key=lambda found: abs(found[0]))
    return abs(mean), error


def _ends(*parts: xr.Dataset) -> list[np.ndarray]:
    return [row for part in parts for row in log_ratios(part).values]


def mlp(runs: Runs) -> Pair:
    """Distance from balance of the pair that is furthest off; control: the same pairs without the incoming bias."""
    data = runs["mlp"]
    right, wrong = furthest(_ends(rescalable(data))), furthest(_ends(rejected(data, SHORT)))
    return with_control(right, wrong, BALANCE, "pairs that leave out the incoming bias")


def cnn(runs: Runs) -> Pair:
    """The same of the ConvNet; control: the same layers with tanh between them in place of pooling."""
    right, wrong = furthest(_ends(rescalable(runs["cnn"]))), furthest(_ends(rejected(runs["tanh"])))
    return with_control(right, wrong, BALANCE, "a CNN in which tanh takes the place of max and average pooling")


def inside(data: xr.Dataset) -> xr.Dataset:
    """Pairs inside residual blocks, which no skip connection has joined with others."""
    pairs = rescalable(data)
    return pairs.isel(pair=[i for i, name in enumerate(pairs["pair"].values) if "+" not in str(name)])


def resnet(runs: Runs) -> Pair:
    """The same of the pairs inside residual blocks; control: of the pairs across blocks."""
    data = runs["resnet"]
    right, wrong = furthest(_ends(inside(data))), furthest(_ends(rejected(data, ACROSS)))
    return with_control(right, wrong, BALANCE, "pairs across blocks")


def transformer(runs: Runs) -> Pair:
    """Query to key and value to output map, whichever is further off; control: output map/first layer and query/value."""
    data = runs["transformer"]
    right = furthest(_ends(named(rescalable(data), "query -> 1.attention.key", "value -> 1.attention.out")))
    wrong = nearest(_ends(named(data, "out -> 1.perceptron.0", "query -> 1.attention.value")))  # both must be off
    return with_control(right, wrong, BALANCE, "the pairs O/W₁ and Q/V, which share no rescaling symmetry")


def adjacent_layers(runs: Runs) -> Pair:
    """Distance from balance of the neighbour that is furthest off, of those without a bias or across a block boundary."""
    others = [rejected(runs["mlp"], SHORT), rejected(runs["resnet"], ACROSS)]
    return with_control(
        furthest(_ends(*others)), furthest(_ends(rescalable(runs["mlp"]))), BALANCE, "adjacent layers that form a rescalable pair"
    )


def identity(runs: Runs) -> Pair:
    """Largest error of the identity over all pairs; control: the smallest over all neighbours that are none."""
    errors = {part: np.concatenate([part(runs[m])["error"].values.ravel() for m in NETWORKS]) for part in (rescalable, rejected)}
    measured, control = (float(errors[rescalable].max()), 0.0), (float(errors[rejected].min()), 0.0)
    return with_control(measured, control, IDENTITY, "pairs of layers that are not rescalable")


def permutation(symmetric: xr.Dataset) -> Pair:
    """Largest relative distance at the end between a trajectory and its transformed twin, brought back; see `twins`."""
    apart = symmetric["apart"].isel(time=-1)
    measured, control = (few_seeds(apart.sel(arm=arm)) for arm in ("permuted", "rescaled"))
    return with_control(measured, control, PERMUTED, "a continuous symmetry (rescaling), which SGD breaks")


def checks(runs: Runs, symmetric: xr.Dataset) -> dict[str, Callable[[], Pair]]:
    """What decides each claim, by id.

    runs: {arm: dataset} of `architectures`; symmetric: the dataset of `twins`.
    """
    found = {"identity": identity, "mlp": mlp, "cnn": cnn, "resnet": resnet, "transformer": transformer}
    found["adjacent-layers"] = adjacent_layers
    return {f"balance.{name}": lambda f=f: f(runs) for name, f in found.items()} | {
        "balance.permutation": lambda: permutation(symmetric)
    }
