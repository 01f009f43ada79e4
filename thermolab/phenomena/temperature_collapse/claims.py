"""The claims of notebook 02, decided from the datasets of its recipes, each with its control.

`claims_toy`, `claims_networks` and `claims_extensions` say how each is measured and to what tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from thermolab.claims import Result, decided, few_seeds, section
from thermolab.engine.traces import prefixed
from thermolab.phenomena.temperature_collapse import claims_extensions, claims_networks, claims_toy

Several = Mapping[str | int, xr.Dataset]


@dataclass(frozen=True)
class Measured:
    """All that the notebook measures. Without the extensions their claims have no verdict.

    toy: datasets of `toy.stationary` ("stationary", three points) and of `toy.converging` at the same rates for two points
    ("two") and three ("three"); up: `networks.stationary` of the narrow network with BatchNorm; up_run, op_run:
    `networks.training` of the narrow and the wide one; layer: `networks.stationary` of the narrow one with LayerNorm;
    batches: `networks.by_batch`; widths: `networks.by_width`; plain, momentum, adam: `networks.stationary` with these
    optimisers; convnets: `convnet.convnets`; ordinary, plateau: the recipes of these names.
    """

    toy: Several
    up: xr.Dataset
    up_run: xr.Dataset
    op_run: xr.Dataset
    batches: Several
    widths: Several
    layer: xr.Dataset
    plain: xr.Dataset
    momentum: xr.Dataset
    adam: xr.Dataset
    convnets: Several
    ordinary: xr.Dataset
    plateau: xr.Dataset


def checks(m: Measured) -> dict:
    """What decides each claim, by id; called, it returns check, name of the control, control."""
    n, toys = claims_networks, {}

    def toy(name: str):
        toys.update(toys or claims_toy.decide(m.toy["stationary"], m.toy["two"], m.toy["three"]))
        return toys[name]

    fallen = m.toy["two"].sel(eta=m.toy["two"]["eta"] < 0.5)
    depth = few_seeds(np.log10(fallen["U_final"]).max("eta"))
    power = few_seeds(fallen["power"].mean("eta"))
    own = {
        "up.monotone": lambda: n.monotone(m.up),
        "up.minimum": lambda: n.minimum(m.up),
        "up.convex": lambda: n.convex(m.up),
        "up.snr.batchnorm": lambda: n.snr_batchnorm(m.up, m.op_run),
        "up.snr.layernorm": lambda: n.snr_layernorm(m.layer, m.up),
        "op.collapse": lambda: n.collapse(m.op_run, m.up_run),
        "op.decay": lambda: n.decay(m.op_run, m.up_run),
        "op.loss-zero": lambda: n.loss_zero(m.op_run, depth),
        "op.power-law": lambda: n.power_law(m.op_run, power),
        "two-temperatures": lambda: n.two_temperatures(m.up),
        "batch.small": lambda: n.batch_small(m.batches),
        "batch.large": lambda: n.batch_large(m.batches),
        "momentum": lambda: n.momentum(m.plain, m.momentum),
        "adam": lambda: n.adam(m.adam),
        "width": lambda: n.width(m.widths),
        "width.exponent": lambda: n.width_exponent(m.widths),
        "architectures": lambda: n.architectures(m.convnets),
    }
    found = {f"collapse.{name}": check for name, check in own.items()} | dict(claims_extensions.checks(m.ordinary, m.plateau))
    names = [name for name in section("02_temperature_collapse") if name not in found]
    return found | {name: lambda name=name: toy(name) for name in names}


def decide(measured: Measured, *, settings=None, seconds: float = 0.0) -> list[Result]:
    """All claims of the notebook, in the register's order. seconds: what the measurements took, shared out evenly."""
    return decided(
        "02_temperature_collapse", checks(measured), lambda name: _seeds(measured, name), settings=settings, seconds=seconds
    )


def _seeds(m: Measured, name: str) -> int:
    """How many seeds stand behind a claim: of the first data that it looks at."""
    of = {"toy": m.toy["two"], "plateau": m.plateau, "standard-net": m.ordinary, "effective-rate": m.ordinary,
          "batch": m.batches[32], "momentum": m.momentum, "adam": m.adam, "width": next(iter(m.widths.values())),
          "architectures": next(iter(m.convnets.values())), "op": m.op_run}  # fmt: skip
    topic = name.split(".")[1].removesuffix("-up").removesuffix("-op")
    return of.get(topic, m.up).sizes["seed"]


def traces(m: Measured, point: xr.Dataset) -> xr.Dataset:
    """What results.nc keeps: the grids of the networks and of the toy, and the working point."""
    kept = {"up": m.up, "op": m.op_run, "toy": m.toy["stationary"], "point": point}
    here = {name: point[source].isel(eta=0, drop=True) for name, source in
            (("U", "U"), ("S", "S"), ("T", "T_gas"), ("snr", "snr"))}  # fmt: skip
    return xr.Dataset(prefixed(kept) | here)
