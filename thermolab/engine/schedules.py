"""Schedules of learning rate and batch size, as the lists of events [[step, {knob: value}], …] that a run follows.

`Experiment.follow(events, every, until)` turns the knobs: the rate η of an event holds from its step to the next one's.
How many events? One costs about 0.2 ms, as much as 30 steps of a small network on one core. One an epoch (`every` = N/B)
is right for cosine, steps and a logarithm that counts epochs. A logarithm that counts steps falls fastest at once, by
α log(1 + N/B) within the first epoch, where one event an epoch holds η₀: for that one, η is followed to `accuracy`
(relative), with events that grow sparse with the logarithm of the step: a hundred or two in all.

Limit of validity: what holds the temperature T ∝ η/B fixed (arXiv:1711.00489) holds it while η is well below 2/λ_max.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

Events = list[list]


def constant(eta: float) -> Events:
    """The same η from step 0 on.

    eta: learning rate. Returns one event. Raises ValueError unless η is positive and finite.

    >>> constant(0.1)
    [[0, {'eta': 0.1}]]
    """
    return [[0, {"eta": _positive("eta", eta)}]]


def logarithmic(eta: float, alpha: float, steps: int, *, epoch: int | None = None, accuracy: float = 0.01) -> Events:
    """Logarithmic cooling η_k = η₀/(1 + α log(1 + k)), k in steps or in whole epochs.

    eta: η₀. alpha: α ≥ 0. steps: length of the run. epoch: steps per epoch N/B; if given, k counts whole epochs, one
    event each; otherwise steps, with an event before η is too large by more than `accuracy`, relative (0: an event a step).
    Raises ValueError for η₀, steps or epoch not positive, α or accuracy negative.
    Source: Geman & Geman 1984, IEEE Trans. Pattern Anal. Mach. Intell. 6, 721, whose T is η here.

    >>> [[k, round(change["eta"], 4)] for k, change in logarithmic(0.1, 1.0, 30, epoch=10)]
    [[0, 0.1], [10, 0.0591], [20, 0.0477]]
    >>> len(logarithmic(0.1, 1.0, 100_000)), len(logarithmic(0.1, 1.0, 100, accuracy=0))
    (127, 100)
    """
    eta, steps = _positive("eta", eta), _count("steps", steps)
    for name, value in (("alpha", alpha), ("accuracy", accuracy)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value} must be finite and not negative")

    def rate(k):
        return eta / (1 + alpha * math.log1p(k))

    if epoch is not None:
        return _events([(k, rate(k // epoch)) for k in range(0, steps, _count("epoch", epoch))])
    if not alpha:
        return constant(eta)
    at, k = [], 0
    while k < steps:
        at.append((k, rate(k)))
        # the first step by which the rate has fallen by more than `accuracy`; e^700 is beyond any run
        further = math.log1p(k) + accuracy * (1 / alpha + math.log1p(k))
        k = max(k + 1, math.ceil(math.expm1(min(further, 700.0))))
    return _events(at)


def cosine(eta: float, steps: int, *, every: int, final: float = 0.0) -> Events:
    """Half a cosine, η_k = η_f + (η₀ − η_f)(1 + cos(πk/K))/2 over the K steps of the run.

    eta: η₀. steps: K. every: steps between events, N/B for one an epoch. final: η_f ≤ η₀, the limit at step K, which is
    not reached: η stays positive. Raises ValueError for η₀, steps or every not positive, η_f outside 0 … η₀.
    Source: Loshchilov & Hutter, arXiv:1608.03983.

    >>> [[k, round(change["eta"], 3)] for k, change in cosine(0.2, 40, every=10)]
    [[0, 0.2], [10, 0.171], [20, 0.1], [30, 0.029]]
    """
    eta, steps = _positive("eta", eta), _count("steps", steps)
    if not 0 <= final <= eta:
        raise ValueError(f"final={final} must lie between 0 and eta={eta}")
    marks = range(0, steps, _count("every", every))
    return _events([(k, final + (eta - final) * (1 + math.cos(math.pi * k / steps)) / 2) for k in marks])


def linear_decay(eta: float, steps: int, *, share: float = 0.25, stages: int = 20, rise: float = 0.0) -> Events:
    """η₀ for most of the run, then down to 0 in a straight line, in stages; before it, if asked for, up from 0 in another.

    eta: η₀. steps: length of the run. share: of the steps, over which η falls, above 0 and up to 1. stages: of equal length, as
    far as there are steps, each at the rate that its middle has. rise: share of the steps over which η rises, the warm-up.
    Raises ValueError for settings that are out of range.

    >>> linear_decay(0.2, 100, stages=2)
    [[0, {'eta': 0.2}], [75, {'eta': 0.15}], [87, {'eta': 0.05}]]
    >>> linear_decay(0.2, 100, stages=2, rise=0.1)
    [[0, {'eta': 0.05}], [5, {'eta': 0.15}], [10, {'eta': 0.2}], [75, {'eta': 0.15}], [87, {'eta': 0.05}]]
    """
    eta, steps = _positive("eta", eta), _count("steps", steps)
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be above 0 and 1 at the most")
    if not 0 <= rise <= 1 - share:
        raise ValueError(f"rise={rise} must be 0 or more and leave the share={share} of the steps in which η falls")
    begin, risen = round((1 - share) * steps), round(rise * steps)
    rises = {risen * k // stages: round(eta * (k + 0.5) / stages, 12) for k in range(stages)} if risen else {}
    falls = {begin + (steps - begin) * k // stages: round(eta * (1 - (k + 0.5) / stages), 12) for k in range(stages)}
    return _events(sorted((rises | {risen: eta} | falls).items()))


def step_decay(eta: float, factor: float, at) -> Events:
    """η₀, multiplied by `factor` at each of the steps `at`.

    eta: η₀. factor: positive, below 1 to cool. at: ascending steps above 0.
    Raises ValueError for η₀ or factor not positive, steps not ascending.

    >>> step_decay(0.4, 0.5, [100, 150])
    [[0, {'eta': 0.4}], [100, {'eta': 0.2}], [150, {'eta': 0.1}]]
    """
    eta, factor, at = _positive("eta", eta), _positive("factor", factor), [0, *map(int, at)]
    if any(b <= a for a, b in pairwise(at)):
        raise ValueError(f"at={at[1:]} must be ascending steps above 0")
    return _events([(k, eta * factor**i) for i, k in enumerate(at)])


def batch_growth(
    events, steps: int, batch_size: int, *, powers_of_two: bool = False, most: float = math.inf
) -> tuple[Events, int]:
    """Grow the batch at constant η₀ instead of a decay of η: B_k = B₀ η₀/η_k, on the same examples.

    events: a schedule of eta alone. steps: its length at batch size B₀. batch_size: B₀.
    powers_of_two: round B_k to B₀ times a power of two instead of to a whole number. most: the largest B, beyond which
    T = η/B stays above the decay's.
    A stage of n steps at B₀ becomes one of n B₀/B_k steps, so that examples and the time Σ η per stage are those of the
    decay; rounding B_k leaves η/B off by its relative error, up to √2 for powers of two.
    Returns (events, steps), the new events and the new length of the run.
    Raises ValueError for events of other knobs, a rate above η₀, counts that are not positive, or most < B₀.
    Source: Smith, Kindermans, Ying & Le, arXiv:1711.00489.

    >>> batch_growth(step_decay(0.4, 0.5, [100, 150]), 200, 16)
    ([[0, {'eta': 0.4, 'batch_size': 16}], [100, {'batch_size': 32}], [125, {'batch_size': 64}]], 138)
    """
    first = _count("batch_size", batch_size)
    if most < first:
        raise ValueError(f"most={most} is below batch_size={batch_size}: the batch can only grow")
    stages = list(_stages(events, steps))
    if any(set(knobs) != {"eta"} for _, _, knobs in stages):
        raise ValueError("events turn other knobs than eta: grow the batch from a schedule of eta alone")
    eta, begin, grown = stages[0][2]["eta"], 0.0, {}
    for start, end, knobs in stages:
        growth = eta / knobs["eta"]
        if growth < 1:
            raise ValueError(f"eta={knobs['eta']} at step {start} exceeds its start {eta}: only a decay can grow the batch")
        size = first * 2 ** round(math.log2(growth)) if powers_of_two else round(first * growth)
        size = min(size, most)
        grown[round(begin)] = size  # a stage that has shrunk to nothing gives way to the next
        begin += (end - start) * first / size
    at = [[step, {"eta": eta, "batch_size": size}] for step, size in grown.items()]
    return _thinned(at), max(round(begin), at[-1][0] + 1)


def reversed_order(events, steps: int) -> Events:
    """The same settings for the same numbers of steps, last first: the control of a cooling schedule is heating.

    events: a schedule that begins at step 0. steps: length of the run. Knobs that an event leaves out keep their value.
    Returns events. Raises ValueError for events that do not begin at 0, are not ascending or reach beyond the run.

    >>> reversed_order(step_decay(0.4, 0.5, [100, 150]), 200)
    [[0, {'eta': 0.1}], [50, {'eta': 0.2}], [100, {'eta': 0.4}]]
    """
    return _thinned([[steps - end, knobs] for _, end, knobs in reversed(list(_stages(events, steps)))])


def values(events, steps: int, knob: str = "eta") -> np.ndarray:
    """The value [steps] of a knob in force at each step of a schedule, to plot or to compare.

    Raises ValueError for a knob that is not set at step 0, and as `reversed_order` does.

    >>> values(step_decay(0.4, 0.5, [1, 3]), 4)
    array([0.4, 0.2, 0.2, 0.1])
    """
    stages = list(_stages(events, steps))
    if knob not in stages[0][2]:
        raise ValueError(f"{knob} is not set at step 0 of this schedule; it sets {', '.join(stages[0][2])}")
    return np.concatenate([np.full(end - begin, knobs[knob]) for begin, end, knobs in stages])


STAGES = 8  # of a final decay of η, each at 0.6 of the rate before


def cool(run, steps: int) -> None:
    """A final decay of η in 8 stages of steps/8, each at 0.6 of the rate before."""
    rate = run.knobs["eta"].clone()
    for stage in range(STAGES):
        run.set(eta=(rate * 0.6 ** (stage + 1)).cpu().numpy())
        run.advance(steps // STAGES)


def _stages(events, steps: int):
    """(first step, end, all knobs in force) of each stretch between events."""
    marks = [step for step, _ in events]
    if not marks or marks[0] != 0 or any(b <= a for a, b in pairwise([*marks, _count("steps", steps)])):
        raise ValueError(f"events at steps {marks[:3]} …: must begin at 0 and ascend to below steps={steps}")
    knobs: dict = {}
    for (begin, change), end in zip(events, [*marks[1:], steps], strict=True):
        knobs = {**knobs, **change}
        yield begin, end, knobs


def _events(rates) -> Events:
    return _thinned([[k, {"eta": eta}] for k, eta in rates])


def _thinned(events) -> Events:
    """Only what changes: an event that turns nothing would still cut the run."""
    knobs: dict = {}
    out = []
    for step, change in events:
        new = {k: v for k, v in change.items() if knobs.get(k) != v}
        knobs |= new
        if new:
            out.append([step, new])
    return out


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value} must be finite and positive")
    return float(value)


def _count(name: str, value: int) -> int:
    if value < 1 or value % 1:
        raise ValueError(f"{name}={value} must be a whole number of at least 1")
    return int(value)
