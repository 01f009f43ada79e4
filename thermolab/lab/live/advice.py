"""What to try after a run has diverged: nothing is advised that was not tried."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from thermolab.engine.experiment import DivergenceError
from thermolab.lab.live.board import Arm

STEPS = 500  # that a new run has to take, at least; as many as the one that diverged if that took more
SECONDS = 1.0  # for all tries together, beyond the first STEPS of one
LONGEST = 5.0  # even for these: meanwhile the kernel does nothing else
TRIES = 6


def after_divergence(
    arms: Sequence[Arm], settings: Sequence[Mapping], error: DivergenceError, *, steps: int, seed: int, device: str
) -> str:
    """The message of the error, with an advice that was tried: new runs with a quarter of η, a sixteenth, … from the start on.

    settings: of each arm, as they are now; steps: taken by the run that diverged.
    """
    what, hint = str(error).partition("; try ")[::2]
    hint = f"or {hint.partition(' or ')[2]} " if " or " in hint else ""
    eta, lowest = settings[0]["eta"], arms[0].scenario.settings["eta"].low
    deadline, wanted, tried = time.monotonic() + SECONDS, max(STEPS, steps), None
    for power in range(1, TRIES + 1):
        rate = eta / 4**power
        if rate < lowest or time.monotonic() > deadline:
            break
        taken = min(
            _taken(arm, {**now, "eta": rate}, wanted, deadline, seed=seed, device=device)
            for arm, now in zip(arms, settings, strict=True)
        )
        if taken:
            return f"{what}; try eta={rate:.3g} {hint}(from the start on {taken:,} steps with this eta went well)"
        tried = rate
    down = f"nor did a quarter of eta after the other, down to {tried:.3g}, go well" if tried else "a smaller eta was not tried"
    return f"{what}; {down}, with the other knobs as they are: turn them back"


def _taken(arm: Arm, settings: Mapping, wanted: int, deadline: float, *, seed: int, device: str) -> int:
    """How many steps a new run took, 0 if it diverged."""
    run, last = arm.scenario.start(seed=seed, device=device, **settings), deadline + LONGEST - SECONDS
    while True:
        run.advance(min(10, wanted - run.state.step))
        if (run.state.diverged >= 0).any():
            return 0
        if run.state.step >= wanted or time.monotonic() > (deadline if run.state.step >= STEPS else last):
            return run.state.step
