"""What to try after a run has diverged: nothing is advised that was not tried."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from thermolab.engine.experiment import DivergenceError
from thermolab.lab.live.board import Arm

STEPS = 500  # that a new run has to take, at least; as many as the one that diverged if that took more
SECONDS = 1.0  # for all tries together
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
    deadline, wanted = time.monotonic() + SECONDS, max(STEPS, steps)
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
    return f"{what}; no eta from {max(lowest, eta / 4**TRIES):.1g} on went well with the other knobs as they are: turn them back"


def _taken(arm: Arm, settings: Mapping, wanted: int, deadline: float, *, seed: int, device: str) -> int:
    """How many steps a new run took, 0 if it diverged."""
    run = arm.scenario.start(seed=seed, device=device, **settings)
    while run.state.step < wanted and (run.state.step < STEPS or time.monotonic() < deadline):
        run.advance(min(100, wanted - run.state.step))
        if (run.state.diverged >= 0).any():
            return 0
    return run.state.step
