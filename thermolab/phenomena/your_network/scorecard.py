"""The scorecard of an experiment of your own: which of the general claims hold for its network, with error and control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from thermolab import claims
from thermolab.claims import Result
from thermolab.engine.experiment import Experiment
from thermolab.phenomena.your_network import sweep, trained  # noqa: F401  (what decides the claims enters itself)
from thermolab.phenomena.your_network.measure import Plan, measure
from thermolab.phenomena.your_network.presets import FACTORS
from thermolab.systems.network import NetworkOnData

SECTION = "07_your_network"
COLUMNS = ("claim", "verdict", "measured", "predicted", "tolerance", "control", "in the book")
RELATIVES = {  # claims of the other notebooks that ask the same of networks of their own
    "general.noether": ("balance.identity",),
    "general.radius": ("ideal-gas.net.radius",),
    "general.stationarity": ("ideal-gas.net.thermometer", "collapse.standard-net.stationarity"),
    "general.balance": ("balance.mlp", "balance.digits", "balance.cnn"),
    "general.alike": ("platonic.same-architecture",),
    "general.temperature": ("collapse.standard-net", "collapse.up.convex"),
    "general.ratio": ("collapse.batch.small",),
    "general.snr": ("collapse.up.snr.batchnorm", "collapse.up.snr.layernorm"),
    "general.edge": ("sharpening.batch.edge",),
    "general.gas": ("ideal-gas.net.entropy",),
}


def beside(results: Sequence[Result]) -> list[dict[str, str]]:
    """For a table: each general claim, its verdict for this network, and the registered ones of its relatives in the book,
    each after the number of its notebook."""
    known, rows = claims.register(), []
    for r in results:
        relatives = [known[name] for name in RELATIVES[r.claim.id]]
        ours = " ".join(f"{c.notebook[:2]} {c.expected}: {c.statement}" for c in relatives)
        rows.append({"claim": r.claim.statement, "this network": r.verdict, "in the book": ours})
    return rows


@dataclass(frozen=True)
class Scorecard(Sequence):
    """The general claims decided for one network, [Result, …]; shows itself as a table."""

    results: tuple[Result, ...]

    def __getitem__(self, which):
        return self.results[which]

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __str__(self) -> str:
        rows = [COLUMNS, *map(_row, self.results)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{name}</th>" for name in COLUMNS)
        body = "".join(
            f"<tr title='{escape(r.claim.statement, quote=True)}'>"
            + "".join(f"<td style='text-align:left'>{escape(text)}</td>" for text in _row(r))
            + "</tr>"
            for r in self.results
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def scorecard(run: Experiment, *, seeds: int = 5, **plan: int) -> Scorecard:
    """Which of the general claims hold for the network of an experiment, at its η, λ and batch size.

    run: of a `NetworkOnData`; it is not touched. Its network runs anew, from the weights that the run started from, at rates from
    η/2 to 2η; seeds: how many runs at each. Where all replicas of `run` started alike, seeds differ in their batches alone.
    plan: burn_in, window, …, as in `measure.Plan`; the burn-in should last some times 1/(ηλ).
    Raises TypeError for an experiment of something else or without batches, ValueError for less than 3 seeds or a grid of knobs,
    DivergenceError where all runs diverge.

    >>> import torch, thermolab as tl
    >>> net = tl.Network(torch.nn.Linear(4, 3), (torch.randn(64, 4), torch.randint(3, (64,))))
    >>> card = tl.scorecard(tl.Experiment(net, eta=0.2, lam=0.05, batch_size=8), seeds=3, burn_in=100, window=200, samples=8)
    >>> [result.verdict for result in card if result.claim.id == "general.radius"]  # no weights are scale-invariant
    ['not applicable']
    """
    system = run.system
    if not isinstance(system, NetworkOnData):
        raise TypeError(f"the experiment is of {type(system).__name__}; allowed: of a network on data")
    if not system.has_batches:
        raise TypeError(
            f"every step of the {system.name} experiment sees all data; allowed: one with batches, whose noise is asked"
        )
    if seeds < 3:
        raise ValueError(f"seeds={seeds} give no error to speak of; allowed: 3 or more")
    if several := [name for name, v in run.knobs.items() if isinstance(v, torch.Tensor) and len(v.unique()) > 1]:
        raise ValueError(f"the experiment has several values of {several[0]}; allowed: one")
    knobs: dict = {name: float(v[0]) if isinstance(v, torch.Tensor) else v for name, v in run.knobs.items()}
    eta, lam, batch_size = (knobs.pop(name) for name in ("eta", "lam", "batch_size"))
    starts = run.start.weights
    weights = starts[torch.arange(seeds) % len(starts)]
    found = {}
    for name, factors, size in (("trained", FACTORS, batch_size), ("double", (1.0, 2.0), 2 * batch_size)):
        rates = eta * np.asarray(factors)
        data = measure(
            system,
            weights.repeat(len(rates), 1),
            np.repeat(rates, seeds),
            lam,
            size,
            Plan(**plan),
            seed=run.seed,
            device=run.device,
            **knobs,
        )
        found[name] = trained.arranged(data, rates, range(seeds))
    settings = {"eta": eta, "lam": lam, "batch_size": batch_size, **knobs, "seed": run.seed, "n_seeds": seeds}
    return Scorecard(tuple(claims.decided(SECTION, found, settings=settings)))


def _row(result: Result) -> tuple[str, ...]:
    name, verdict = result.claim.id, f"{claims.SYMBOLS[result.verdict]} {result.verdict}"
    verdict += f": {result.undecided}" if result.undecided else ""
    if result.check is None or result.control is None:
        return name, verdict, "", "", "", "", result.claim.expected
    check, sign = result.check, {"above": "≥ ", "below": "≤ "}.get(result.check.relation, "")
    measured = f"{check.measured:.3g}" + (f" ± {check.error:.2g}" if check.error else "")
    control = f"{result.control_name}: {result.control.measured:.3g} ({result.control.verdict})"
    return name, verdict, measured, f"{sign}{check.predicted:.3g}", f"{check.tolerance:.3g}", control, result.claim.expected
