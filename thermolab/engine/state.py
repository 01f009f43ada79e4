"""What a run is at a step, and what the observables read of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch


@dataclass(frozen=True)
class State:
    """What a run is at a step. weights: [R, P]; diverged: [R], the step of divergence or -1; radius: [R] of the fixed sphere.

    memory: {name: [R, ...]}, read only: what is kept from step to step beside the weights, as an optimiser's velocity [R, P] or
    the buffers of a module that steps change; empty for plain SGD without such buffers.
    """

    weights: torch.Tensor
    step: int
    diverged: torch.Tensor
    radius: torch.Tensor
    memory: Mapping[str, torch.Tensor] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Frame:
    """What the observables read at `step`: {name: [R] array}. Means since the last frame, NaN where a replica diverged.

    knobs: {name: [R] array, or the text of a choice}.
    """

    step: int
    knobs: dict[str, np.ndarray | str]
    observables: dict[str, np.ndarray]

    def knob(self, name: str) -> float | str:
        """The value of a knob that is the same for all replicas."""
        value = self.knobs[name]
        return value if isinstance(value, str) else float(np.ravel(value)[0])
