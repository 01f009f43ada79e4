"""The network that is asked about: one from the menu, or what the function of a file makes.

A function `make()` returns (module, (x, y)), (module, (x, y), loss) or a `NetworkOnData` with its data. Each seed calls it anew
under `torch.manual_seed(seed)`, so that seeds differ in the module's own start; the data are those of the first call.
"""

from __future__ import annotations

import hashlib
import linecache
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from thermolab.engine.files import named, one_line
from thermolab.systems import data, models
from thermolab.systems.network import NetworkOnData

SIZE, CLASSES = 8, 10  # of an image of the menu
N_DATA, LABEL_NOISE = 512, 0.3  # images, and the share of labels drawn anew: noise that is not learnt by heart so soon
IMAGES = ("digits", "synthetic")
FORM = "make() must return (module, (x, y)), (module, (x, y), loss) or a thermolab Network"


def _mlp() -> nn.Module:
    norm = nn.LayerNorm(24, elementwise_affine=False)
    return nn.Sequential(nn.Linear(SIZE**2, 24), norm, nn.ReLU(), *models.mlp((24, 16, CLASSES)))


def _cnn() -> nn.Module:
    first = [nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.GroupNorm(1, 6, affine=False), nn.ReLU()]
    second = [nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, CLASSES)]
    return nn.Sequential(models.AsImages(SIZE), *first, *second)


def _resnet() -> nn.Module:
    first = [nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.GroupNorm(1, 6, affine=False), nn.ReLU()]
    inner = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1))
    last = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6 * 4, CLASSES)]
    return nn.Sequential(models.AsImages(SIZE), *first, models.Residual(inner), *last)


def _transformer() -> nn.Module:
    return models.tiny_transformer(8, CLASSES, size=SIZE, patch=4)


MENU: dict[str, Callable[[], nn.Module]] = {"mlp": _mlp, "cnn": _cnn, "resnet": _resnet, "transformer": _transformer}


@dataclass(frozen=True)
class Made:
    """A network on its data, and how to make its module anew."""

    make: Callable[[], nn.Module]
    system: NetworkOnData

    def starts(self, seeds: Iterable[int]) -> torch.Tensor:
        """Weights [R, P] as the module itself starts, a fresh one for each seed."""
        return torch.stack([flat(_seeded(self.make, seed)) for seed in seeds])


def flat(module: nn.Module) -> torch.Tensor:
    """The trainable parameters of a module [P]."""
    return nn.utils.parameters_to_vector([p for p in module.parameters() if p.requires_grad]).detach()


def find(network: str, images: str = "digits") -> Made:
    """The network of that name from the menu, on `images`, or what "FILE.py:FUNCTION" makes, which brings its own data.

    Raises ValueError, one line, for an unknown name, a file without the function, or a function that makes something else.
    """
    if network in MENU:
        learnt = _images(images)
        return Made(MENU[network], NetworkOnData(_seeded(MENU[network], 0), learnt))
    if ":" not in network:
        raise ValueError(f"network={network!r} is unknown; allowed: {', '.join(MENU)}, or FILE.py:FUNCTION")
    make = named(network)
    first = _seeded(lambda: _made(network, make), 0)
    if isinstance(first, NetworkOnData):
        return Made(lambda: _made(network, make).replicas.module, first)
    return Made(lambda: _parts(network, _made(network, make))[0], _system(network, *_parts(network, first)))


def written(make: Callable | None) -> str | None:
    """ "FILE:make" of a function that stands in a notebook's cell with what the cell imports; None if it returns nothing yet.

    Recipes work in other processes, which read the cell's text from a file of its own.
    """
    if make is None or _seeded(make, 0) is None:
        return None
    text = "".join(linecache.getlines(make.__code__.co_filename))
    folder = Path(tempfile.gettempdir()) / "thermolab"
    folder.mkdir(exist_ok=True)
    path = folder / f"cell_{hashlib.sha256(text.encode()).hexdigest()[:12]}.py"
    path.write_text(text, encoding="utf-8")
    return f"{path}:{make.__name__}"


def _images(images: str) -> data.Dataset:
    if images == "digits":
        return data.digits(N_DATA, label_noise=LABEL_NOISE)
    found = data.synthetic_images(N_DATA, size=SIZE, label_noise=LABEL_NOISE)
    return data.Dataset(found.x.flatten(1), found.y)


def _seeded(make: Callable, seed: int):
    """make() under its own random numbers, which leaves those of everybody else alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _made(network: str, make: Callable):
    if not callable(make):
        raise ValueError(f"network={network!r} is no function; {FORM}")
    try:
        return make()
    except Exception as error:
        raise ValueError(f"network={network!r} stops with {one_line(error)}") from error


def _parts(network: str, made) -> tuple:
    """(module, (x, y)[, loss]) of what make() returned, checked."""
    if not isinstance(made, tuple) or len(made) not in (2, 3) or not isinstance(made[0], nn.Module):
        got = f"({', '.join(type(part).__name__ for part in made)})" if isinstance(made, tuple) else type(made).__name__
        raise ValueError(f"network={network!r} returns {got}; {FORM}")
    x, y = made[1] if isinstance(made[1], tuple | list) and len(made[1]) == 2 else (None, None)
    if not isinstance(x, torch.Tensor) or not isinstance(y, torch.Tensor):
        raise ValueError(f"network={network!r}: its data are no two tensors (x, y); {FORM}")
    if len(x) != len(y) or not len(x):
        raise ValueError(f"network={network!r}: {len(x)} inputs and {len(y)} targets; allowed: as many, at least 1")
    return made


def _system(network: str, module: nn.Module, pair, loss=None) -> NetworkOnData:
    x, y = pair
    loss = loss or ("squared" if y.is_floating_point() else "cross-entropy")
    try:
        return NetworkOnData(module, data.Dataset(x, y), loss=loss)
    except (ValueError, TypeError) as error:
        raise ValueError(f"network={network!r}: {one_line(error)}") from error
