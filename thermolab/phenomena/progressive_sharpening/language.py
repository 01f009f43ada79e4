"""The sharpness of a network that learns a small language (`next_words`), even, uneven, and even again.

Half of the contexts become nearly certain and half nearly random, the mean entropy being kept, and then all are made alike
again. Two arms of the same run tell what did it: `noise`, in which the language stays and only its noise becomes imbalanced; and
`descent` of the new language on exact gradients, without any noise. Part of the change is no effect of noise: the new language
is another function, and 4s, the least λ_max of all networks that compute it (s its largest singular value), is another one too.
Hence `least` beside λ_max. Source: document 4, part 4.

What counts as a rise: log λ_max at the end of the second third, when the language (or its noise) is uneven, less the larger of
the two values at the ends of the even thirds, so that what does not come back counts as none; a mean over a seed's languages.
RISE, which stands here once and does not move with the data: a tenth. The source says "highly imbalanced" and no number; a tenth
is above what runs of this length leave unconverged, some 5 %, and below what the closed form has, 1.4 to 1.9. Under the
squared loss the rise of the least λ_max of the same function is taken off first: noise is not what makes that part.
That λ_max "rises" under cross-entropy is tested in its weakest form, that it does not fall by RISE below the smaller of the two
ends: a language without effect passes, so only a fall that is seen refutes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import xarray as xr

from thermolab.claims import Decision, decides, few_seeds, with_control
from thermolab.engine import rules
from thermolab.engine.recipe import recipe
from thermolab.engine.rules import Count, Positive, Rule, integer, positive, refuse, several
from thermolab.phenomena.progressive_sharpening import next_words

ARMS = ("language", "noise", "descent")
DECAY = 0.3  # of each third, in which η falls to 0
EVEN = Rule("an even number, 4 or more", lambda x: refuse("is not even") if x % 2 else integer(4).convert(x))
RISE = 0.1


@recipe("small languages, {loss}", dims=("arm", "seed", "language", "time"))
def language(
    loss: Literal["cross-entropy", "squared"] = "cross-entropy",
    *,
    entropies: Annotated[Sequence[float], several(positive(), 2, 2)] = (0.3, 2.472),
    words: Annotated[int, EVEN] = 16,
    width: Count = 16,
    quiet: Positive = 0.1,
    scale: Positive = 0.1,
    eta: Positive = 0.1,
    batch_size: Count = 16,
    steps: Count = 8000,
    looks: Count = 4,
    languages: Count = 4,
    seed: int = 0,
) -> xr.Dataset:
    """A linear network W₂W₁ that learns next words, in a language that is even, uneven, and even again.

    entropies: H_c in nats of every other context, and of those between, while the language is uneven; their mean is H_c of all
    contexts while it is even; words: K; width: h, K - 1 or more; quiet: factor of the noise power of every other context in the
    arm `noise`; scale: standard deviation of the weights at the start; steps: of a third, η being constant for the first 70 %
    of it and falling to 0; looks: measurements in each third; languages: of a seed.

    Returns a Dataset, dims (arm, seed, language, time), time in steps; arms language, noise and descent, which have the first
    third, SGD on the even language, in common (module docstring): lambda_max of the mean loss; for the squared loss also
    least = 4s of the largest singular value s of W₂W₁, and theory (arm, seed, language, third), closed form of λ_max under SGD.
    NaN where a run diverged. Raises ValueError for settings that are out of range. Source: document 4, part 4.
    """
    if width < words - 1:
        raise ValueError(f"width={width} is too small; allowed: {words - 1} or more, one less than the words")
    rules.multiple(looks, "looks", steps=steps)
    uneven, numbers = list(entropies) * (words // 2), [1000 * seed + i for i in range(languages)]
    even, other = (np.stack([next_words.bigrams(h, seed=n) for n in numbers]) for h in ([float(np.mean(uneven))] * words, uneven))
    ones, louder = np.ones((languages, words)), next_words.amplitudes(even, quiet)
    first, back = (even, ones), {"language": ones, "noise": ones, "descent": None}
    second = {"language": (other, ones), "noise": (even, louder), "descent": (other, None)}
    thirds = {arm: (first, second[arm], (even, back[arm])) for arm in ARMS}
    rng = np.random.default_rng([seed, 1])
    begin = [scale * rng.standard_normal((languages, words, width)) for _ in range(2)]
    rates = eta * np.minimum(1, (1 - np.arange(steps) / steps) / DECAY)
    settings = {"loss": loss, "rates": rates.reshape(looks, -1), "batch_size": batch_size, "rng": rng}
    common, rows = _third(begin, *first, **settings), []
    for arm in ARMS:
        weights, row = [w.copy() for w in begin], list(common)
        for p, amplitude in thirds[arm][1:]:
            row += _third(weights, p, amplitude, **settings)
        rows.append(np.stack(row, -1))
    found = {k: (("arm", "language", "time"), v) for k, v in zip(("lambda_max", "least"), np.stack(rows, 1), strict=True)}
    if loss == "squared":
        closed = [[next_words.theory(*third) for third in thirds[arm]] for arm in ARMS]
        found["theory"] = (("arm", "third", "language"), closed)
    else:
        del found["least"]
    return xr.Dataset(found, coords={"arm": list(ARMS), "time": np.arange(1, 3 * looks + 1) * (steps // looks)})


def _third(weights, p, amplitude, *, loss, rates, batch_size, rng) -> list[np.ndarray]:
    """λ_max and the least of it [2, R], at each look; the weights go on, in place. amplitude None: gradient descent."""
    found = []
    for part in rates:
        with np.errstate(over="ignore", invalid="ignore"):  # divergence shows as NaN
            next_words.descend(*weights, next_words.batches(p, amplitude, loss, len(part), batch_size, rng), part, loss)
            found.append(np.stack([next_words.lambda_max(*weights, p, loss), next_words.least(*weights)]))
    return found


def rise(values: xr.DataArray) -> xr.DataArray:
    """log of the end of the second third over the larger of the other two ends, from values (…, time)."""
    each = values.sizes["time"] // 3
    first, second, third = (np.log(values.isel(time=each * (k + 1) - 1, drop=True)) for k in range(3))
    return second - np.maximum(first, third)


def of_noise(data: xr.Dataset) -> xr.DataArray:
    """The rise of λ_max (arm, seed, language), less that of the least λ_max of the same function where that rises."""
    return rise(data["lambda_max"]) - np.maximum(rise(data["least"]), 0)


READS = ("entropies", "words", "width", "quiet", "scale", "steps", "languages")


@decides("sharpening.language", reads=READS)
def sharpens_under_cross_entropy(cross_entropy: xr.Dataset) -> Decision:
    """Log of λ_max in the uneven language over the smaller of the even ends, not to fall; control: only its noise uneven."""
    change = -rise(1 / cross_entropy["lambda_max"])  # over the smaller of the even ends
    measured, control = (few_seeds(change.sel(arm=arm).mean("language", skipna=False)) for arm in ("language", "noise"))
    return with_control(measured, control, RISE, "the same language, only its noise made imbalanced", 0.0, "above")


@decides("sharpening.language.noise", reads=READS)
def noise_sharpens_under_cross_entropy(cross_entropy: xr.Dataset) -> Decision:
    """Log of λ_max under uneven noise over the larger of the even ends; control: the language made uneven."""
    name = "the language itself made imbalanced, and its noise with it"
    return _compared(rise(cross_entropy["lambda_max"]), "noise", "language", name)


@decides("sharpening.language.squared", reads=READS)
def sharpens_under_squared_loss(squared: xr.Dataset) -> Decision:
    """Rise of log λ_max in the uneven language less that of the least λ_max of its function; control: descent without noise."""
    return _compared(of_noise(squared), "language", "descent", "gradient descent without noise, from the same flat point")


def _compared(found: xr.DataArray, arm: str, control: str, name: str) -> Decision:
    measured, other = (few_seeds(found.sel(arm=arm).mean("language", skipna=False)) for arm in (arm, control))
    return with_control(measured, other, 0.0, name, RISE, "above")
