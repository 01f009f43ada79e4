"""Claims, the rule that decides them, and the register of all of them.

A claim is a sentence of the literature that one run can decide. A `Check` compares a measured
number with a predicted one; a `Result` is a claim with its check and the check of its control, an arm
of the same run in which the very same check must come out the other way.

The rule: with Δ the distance of the measurement from the prediction and SE its standard error, the check
**holds** if Δ + 2 SE <= tolerance, **fails** if Δ - 2 SE > tolerance and is **inconclusive** otherwise.
The outcome of the control is registered, opposite to the claim's. Where it comes out otherwise, or the check comes
out as it does, the verdict is inconclusive: an instrument that says the same of both tells nothing apart.
"""

from __future__ import annotations

import inspect
import math
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from scipy import special  # not scipy.stats, which takes half a second to import

Verdict = Literal["holds", "fails", "inconclusive", "not applicable"]
Relation = Literal["equal", "above", "below"]
SYMBOLS = {"holds": "✓", "fails": "✗", "inconclusive": "?", "not applicable": "–"}  # of verdicts, in tables

DOCUMENTS = {  # the sources by their numbers in the register, as a reader is told of them
    0: "the energy–entropy framework (Seetha Ram)",
    1: "SGD as free energy minimization (arXiv:2505.23489)",
    2: "the summary of Neural thermodynamics (arXiv:2505.12387)",
    3: "the ideal gas of scale-invariant networks (arXiv:2511.07308)",
    4: "Ziyin's slides on universal phenomena and irreversibility",
    5: "beyond the sources",
}

NUMBERED = re.compile(  # how the register names them, with what it says beside their numbers
    r"(?:energy-entropy framework|entropic forces (?:slides|summary)|ideal gas of scale-invariant networks|temperature collapse)"
    r" \(document (\d)\)(?:, arXiv:[\d.]+\d)?"
    r"|\b[Dd]ocument (\d)\b(?: \(arXiv:[\d.]+\))?(?:, beyond the sources)?"
)

# Two standard errors of a normal variable cover this share; few seeds must cover the same.
COVERAGE = float(special.erf(2 / math.sqrt(2)))


@dataclass(frozen=True)
class Claim:
    """One line of the register, `data/claims.toml`.

    `source` is the place; `claimed` says what stands there, at full strength; `statement` is what is tested, and `narrowed`
    says what of the former it leaves out, and why ("" if nothing).
    `expected` is "holds", "fails" (does not reproduce) or "open" (nobody has measured it yet) and binds at a
    notebook's default settings, preset lab.
    `core` is False for what lies outside the hour of a course lab. `reason` explains an unexpected verdict.
    `figure` is the figure of the notebook that shows it, a function of its phenomenon's `figures` ("" if none does).
    """

    id: str
    notebook: str
    statement: str
    source: str
    expected: str
    control: str
    claimed: str = ""
    narrowed: str = ""
    core: bool = True
    reason: str = ""
    figure: str = ""

    @property
    def control_expected(self) -> Verdict | None:
        """The registered outcome of the control, opposite to the claim's; None while the claim is open."""
        return {"holds": "fails", "fails": "holds"}.get(self.expected)


@dataclass(frozen=True)
class Check:
    """A measured number against a predicted one.

    relation "equal" asks |measured - predicted| <= tolerance, "above" asks measured >= predicted - tolerance,
    "below" asks measured <= predicted + tolerance. `error` is one standard error of `measured`, already
    widened by the t quantile when it comes from few seeds (`few_seeds`), 0 for an exact identity.
    """

    measured: float
    predicted: float
    tolerance: float
    error: float = 0.0
    relation: Relation = "equal"

    def __post_init__(self):
        if self.relation not in ("equal", "above", "below"):
            raise ValueError(f"relation={self.relation!r} is none of 'equal', 'above', 'below'")
        if not self.tolerance >= 0 or self.error < 0:
            raise ValueError(f"tolerance={self.tolerance} and error={self.error} must not be negative; NaN only for the error")

    @property
    def distance(self) -> float:
        """Δ: how far the measurement lies on the wrong side of the prediction (signed if one-sided)."""
        gap = self.measured - self.predicted
        return {"equal": abs(gap), "above": -gap, "below": gap}[self.relation]

    @property
    def margin(self) -> float:
        """How far the measurement lies from the edge of the tolerance, in standard errors; infinite for an exact identity."""
        gap = abs(self.tolerance - self.distance)
        return gap / self.error if self.error else math.inf

    @property
    def verdict(self) -> Verdict:
        if not math.isfinite(self.measured) or not math.isfinite(self.error):
            return "inconclusive"
        if self.distance + 2 * self.error <= self.tolerance:
            return "holds"
        if self.distance - 2 * self.error > self.tolerance:
            return "fails"
        return "inconclusive"


NOTHING = Check(math.nan, math.nan, math.inf, math.nan)  # what stands in the record of a claim that does not apply


class Estimate(NamedTuple):
    """A number, one standard error of it, and how many seeds (or replicas) stand behind it."""

    value: float
    error: float
    n: int


class Decision(NamedTuple):
    """What decides a claim: its check, the name of its control, the check of that, and how many seeds stand behind it."""

    check: Check
    control_name: str
    control: Check
    n_seeds: int


class NotApplicable(NamedTuple):
    """In place of a `Decision`: the claim says nothing about the case at hand, and why, in a few words."""

    reason: str


def with_control(
    measured: Estimate, control, tolerance: float, name: str, predicted: float = 0.0, relation: Relation = "equal"
) -> Decision:
    """The decision of a claim whose check and control differ in what was measured alone.

    measured: whose n is that of the decision; control: an estimate, or (number, standard error).
    """
    check, other = (Check(m[0], predicted, tolerance, m[1], relation) for m in (measured, control))
    return Decision(check, name, other, measured.n)


@dataclass(frozen=True)
class Result:
    """A claim, decided: its check and the check of its control, taken in the same run.

    inapplicable: why the claim says nothing about the case at hand; its verdict is "not applicable" then, without checks.
    """

    claim: Claim
    check: Check | None
    control_name: str
    control: Check | None
    n_seeds: int
    settings: Mapping[str, object] = field(default_factory=dict)
    seconds: float = 0.0
    inapplicable: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.inapplicable:
            return "not applicable"
        return "inconclusive" if self.undecided else self.check.verdict

    @property
    def undecided(self) -> str:
        """Why the verdict is inconclusive or not applicable, in a few words; "" where it is decided."""
        if self.inapplicable:
            return self.inapplicable
        check, control, registered = self.check.verdict, self.control.verdict, self.claim.control_expected
        if "inconclusive" in (check, control):
            return f"{'the check' if check == 'inconclusive' else 'the control'} is within two standard errors of its tolerance"
        if registered and control != registered:
            return f"the control {control}, registered is that it {registered}"
        return f"check and control both {check.removesuffix('s')}" if check == control else ""

    @property
    def quantity(self) -> str:
        """What was measured, and in which unit: the first paragraph of its decider's docstring; "" without a decider."""
        found = _deciders.get(self.claim.id)
        text = inspect.getdoc(found.function) if found else None
        return " ".join((text or "").split("\n\n")[0].split())

    @property
    def agrees(self) -> bool:
        """Whether the verdict is the registered one; nothing contradicts an open claim."""
        return self.claim.expected in (self.verdict, "open")

    def as_dict(self) -> dict:
        """The record of claims.json: plain values, JSON-ready."""
        c, k, other = self.claim, self.check or NOTHING, self.control or NOTHING
        return {
            "id": c.id,
            "statement": c.statement,
            "source": c.source,
            "claimed": c.claimed,
            "narrowed": c.narrowed,
            "quantity": self.quantity,
            "predicted": _plain(k.predicted),
            "measured": _plain(k.measured),
            "error": _plain(k.error),
            "tolerance": _plain(k.tolerance),
            "relation": k.relation,
            "margin": _plain(k.margin),
            "verdict": self.verdict,
            "undecided": self.undecided,
            "expected": c.expected,
            "control": {
                "name": self.control_name,
                "measured": _plain(other.measured),
                "predicted": _plain(other.predicted),
                "error": _plain(other.error),
                "margin": _plain(other.margin),
                "verdict": "not applicable" if self.inapplicable else other.verdict,
            },
            "n_seeds": self.n_seeds,
            "settings": {k: np.asarray(v).tolist() for k, v in self.settings.items()},
            "seconds": round(float(self.seconds), 2),
        }


def _plain(x) -> float | None:
    """A Python float, or None where JSON has no number (NaN, infinity)."""
    return float(x) if math.isfinite(x) else None


class Together(NamedTuple):
    """What many verdicts at two standard errors mean together, of `n` that are decided.

    at_worst: wrong ones expected if every truth lay on the edge of its tolerance; expected: if each measurement scatters
    about its truth as its error says; standing: how many stay if the chance of ANY wrong one is to be `family` (Bonferroni).
    """

    n: int
    at_worst: float
    expected: float
    standing: int
    family: float


def together(margins: Sequence[tuple[float, int]], family: float = 0.05) -> Together:
    """margins: of each decided check its `margin`, and the number of seeds (or replicas) behind its error.

    The chance that the truth lies beyond the edge is the tail of Student's t there, as the error was widened by its quantile.
    """
    n = len(margins)
    tails = [_tail(margin, seeds) for margin, seeds in margins]
    return Together(n, n * (1 - COVERAGE) / 2, float(sum(tails)), sum(tail * n <= family for tail in tails), family)


def _tail(margin: float, n: int) -> float:
    degrees = max(n - 1, 1)
    return float(special.stdtr(degrees, -margin * special.stdtrit(degrees, (1 + COVERAGE) / 2) / 2))


def few_seeds(values) -> Estimate:
    """Mean over a few seeds and its standard error, widened by Student's t.

    values: [n] with n >= 2. Two of the returned errors cover what two standard errors of a normal mean do.
    """
    values = np.asarray(values, float).ravel()
    if values.size < 2:
        raise ValueError(f"{values.size} seed(s) give no standard error; use 2 or more")
    t = special.stdtrit(values.size - 1, (1 + COVERAGE) / 2)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size) * t / 2), values.size)


def pick(choose: Callable, estimates: Iterable[Estimate], key: Callable = lambda estimate: estimate.value) -> Estimate:
    """The largest (choose=max) or least (min) of estimates by a key; one that is not finite if there is one.

    So a run that was lost decides nothing, where max and min alone may pass it over.
    """
    estimates = list(estimates)
    lost = [estimate for estimate in estimates if not math.isfinite(estimate.value + estimate.error)]
    return lost[0] if lost else choose(estimates, key=key)


def replicas(values) -> Estimate:
    """Mean over many independent replicas [n] and its plain standard error."""
    values = np.asarray(values, float).ravel()
    if values.size < 2:
        raise ValueError(f"{values.size} replica(s) give no standard error; use 2 or more")
    return Estimate(float(values.mean()), float(values.std(ddof=1) / math.sqrt(values.size)), values.size)


def share(hits) -> Estimate:
    """Share of many independent trials [n] that hit, and half of the distance to the farther end of Wilson's interval.

    The interval is that of two standard errors, so a share of 0 or 1 has an error too (Wilson, J. Am. Stat. Assoc. 22, 209).

    >>> share([True] * 80).error < 0.025 < share([True] * 70).error
    True
    """
    hits = np.asarray(hits, bool).ravel()
    if not hits.size:
        raise ValueError("no trial gives no share; use 1 or more")
    p, n = float(hits.mean()), hits.size
    middle, half = (p + 2 / n) / (1 + 4 / n), 2 * math.sqrt(p * (1 - p) / n + 1 / n**2) / (1 + 4 / n)
    return Estimate(p, (abs(middle - p) + half) / 2, n)


def extreme(deviations, *, n_boot: int = 1000, seed: int = 0) -> Estimate:
    """Largest absolute deviation over a grid, and its standard error by bootstrap over seeds.

    deviations: [n_seeds, ...], signed. The seeds are averaged first; the maximum is over everything else. NaN, a cell
    whose run diverged, is left out of the average, and out of the maximum where no seed is left.
    The spread is widened by Student's t as in `few_seeds`. Bias: noise alone gives a positive extreme, so a grid whose
    noise is near the tolerance errs towards "fails" or "inconclusive", never towards "holds".
    """
    deviations = np.asarray(deviations, float)
    n = len(deviations)
    if n < 2:
        raise ValueError(f"{n} seed(s) give no standard error; use 2 or more")
    deviations = deviations.reshape(n, -1)
    picks = np.random.default_rng(seed).integers(n, size=(n_boot, n))
    maxima = _largest_mean(deviations[picks])
    # A bootstrap over n draws sees the spread of a mean too small by sqrt((n - 1)/n).
    widen = special.stdtrit(n - 1, (1 + COVERAGE) / 2) / 2 * math.sqrt(n / (n - 1))
    maxima = maxima[np.isfinite(maxima)]
    return Estimate(float(_largest_mean(deviations)), float(maxima.std() * widen) if maxima.size else math.nan, n)


def _largest_mean(deviations: np.ndarray) -> np.ndarray:
    """Largest |mean over seeds| of [..., seed, cell]; NaN if there is nothing to average."""
    known = np.isfinite(deviations)
    count = known.sum(-2)
    means = np.abs(np.where(known, deviations, 0).sum(-2)) / np.maximum(count, 1)
    return np.where((count > 0).any(-1), np.where(count > 0, means, 0).max(-1), np.nan)


def data_folder() -> Path:
    """The folder `data/`: beside the package in a checkout, inside it when installed from a wheel."""
    beside = Path(__file__).parents[1] / "data"
    return beside if (beside / "claims.toml").is_file() else Path(__file__).parent / "_data"


class RegisterError(ValueError):
    """A fault of data/claims.toml, in one line."""


@cache
def _sections() -> dict[str, dict]:
    with open(data_folder() / "claims.toml", "rb") as file:
        try:
            return tomllib.load(file)
        except ValueError as error:
            raise RegisterError(f"data/claims.toml: {error}") from error


@cache
def register() -> dict[str, Claim]:
    """All claims of the book by id, in the order of the notebooks. Raises RegisterError for a line with a fault."""
    claims: dict[str, Claim] = {}
    for notebook, part in _sections().items():
        for line in part["claims"]:
            claim = _claim(notebook, line)
            if claim.id in claims:
                raise RegisterError(f"data/claims.toml: two claims have the id {claim.id}")
            claims[claim.id] = claim
    return claims


def _claim(notebook: str, line: Mapping) -> Claim:
    where = f"data/claims.toml, {notebook}, {line.get('id', 'a claim without id')}"
    try:
        claim = Claim(notebook=notebook, **line)
    except (
        TypeError
    ) as error:  # "… missing 1 required positional argument: 'control'", "… unexpected keyword argument 'controll'"
        raise RegisterError(f"{where}: {str(error).removeprefix('Claim.__init__() ')}") from error
    if claim.expected not in ("holds", "fails", "open"):
        raise RegisterError(f"{where}: expected={claim.expected!r}; allowed: holds, fails, open")
    return claim


@cache
def retired() -> dict[str, str]:
    """Ids that scripts outside may know and that are decided no more, each with the reason and what took its place."""
    return {line["id"]: line["reason"] for part in _sections().values() for line in part.get("retired", [])}


def with_titles(text: str) -> str:
    """A text of the register as a reader sees it: documents by their titles.

    >>> with_titles("document 4, part 1")
    "Ziyin's slides on universal phenomena and irreversibility, part 1"
    """
    return NUMBERED.sub(lambda found: DOCUMENTS[int(found[1] or found[2])], text)


def phenomena() -> dict[str, str]:
    """The phenomenon of each notebook: the one name of its package, tests, scenarios and page."""
    return {notebook: part["phenomenon"] for notebook, part in _sections().items()}


@dataclass(frozen=True)
class Decider:
    """What decides a claim: a function of datasets, {its parameter: the dataset's name}, and the settings that it reads."""

    function: Callable[..., Decision]
    datasets: Mapping[str, str]
    reads: tuple[str, ...]


_deciders: dict[str, Decider] = {}  # by claim; a phenomenon's recipes enter theirs as they are imported


def decides(claim: str, *, reads: Sequence[str] = (), **datasets: str):
    """Enter a function as what decides the claim: it takes datasets and returns a `Decision`, or `NotApplicable`.

    A parameter is the name of a dataset among those that the notebook measures, unless another name is given for it here.
    reads: the physical settings of the recipes behind it (grids, widths, noise) that bear on what it decides.
    Raises ValueError for a claim that has a decider already, or that is not in the register.
    """

    def enter(function: Callable[..., Decision]):
        if claim not in register():
            raise ValueError(f"{claim} is not in the register: add it to data/claims.toml")
        if claim in _deciders:
            raise ValueError(f"{claim} is decided by {_deciders[claim].function.__qualname__} already")
        names = {name: datasets.get(name, name) for name in inspect.signature(function).parameters}
        _deciders[claim] = Decider(function, names, tuple(reads))
        return function

    return enter


def decider(claim: str) -> Decider:
    """What decides a claim. Raises LookupError, one line, for one without a decider among the modules that are imported."""
    if claim not in _deciders:
        raise LookupError(f'nothing decides {claim}: write a function under @decides("{claim}") by its recipe, and import that')
    return _deciders[claim]


def decide(claim: str, found: Mapping, *, settings: Mapping[str, object] | None = None, seconds: float = 0.0) -> Result:
    """One claim, decided from datasets by name. seconds: its share of what the measurements took."""
    began, by = time.perf_counter(), decider(claim)
    if missing := sorted(set(by.datasets.values()) - set(found)):
        raise LookupError(f"{claim} needs the dataset {missing[0]!r}, which was not measured")
    decision = by.function(**{name: found[dataset] for name, dataset in by.datasets.items()})
    seconds += time.perf_counter() - began
    if isinstance(decision, NotApplicable):
        return Result(register()[claim], None, "", None, 0, settings or {}, seconds, decision.reason)
    if not isinstance(decision, Decision):
        found = type(decision).__name__
        raise TypeError(f"{by.function.__qualname__}, which decides {claim}, must return a Decision, not {found}")
    return Result(register()[claim], *decision, settings or {}, seconds)


def decided(notebook: str, found: Mapping, *, settings: Mapping[str, object] | None = None, seconds: float = 0.0) -> list[Result]:
    """All claims of a notebook, in the register's order.

    found: what was measured, by name. seconds: what that took, shared out evenly.
    """
    names = section(notebook)
    return [decide(name, found, settings=settings, seconds=seconds / len(names)) for name in names]


def section(notebook: str) -> dict[str, Claim]:
    """The claims of one notebook, such as "03_ideal_gas"."""
    found = {k: c for k, c in register().items() if c.notebook == notebook}
    if not found:
        known = sorted({c.notebook for c in register().values()})
        raise KeyError(f"no claims are registered for {notebook!r}; allowed: {', '.join(known)}")
    return found
