"""Data without a download: scikit-learn's digits, and learnable synthetic images.

Both return a `Dataset` of float32 inputs and int64 labels, the same for the same seed on every machine.
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage


@dataclass(frozen=True)
class Dataset:
    """Inputs x [N, ...] float32 and labels y [N] int64, of n_classes classes."""

    x: torch.Tensor
    y: torch.Tensor
    n_classes: int = 10

    def __len__(self) -> int:
        return len(self.y)

    def to(self, device) -> Dataset:
        """The same data on another device."""
        return Dataset(self.x.to(device), self.y.to(device), self.n_classes)


def digits(n: int = 256, *, label_noise: float = 0.0, seed: int = 0) -> Dataset:
    """n images of scikit-learn's 8x8 digits, flattened to 64 pixels, each pixel standardised over the n images.

    label_noise: the share of labels drawn anew, uniformly over the ten classes (a tenth of them keep their value).
    Source: Alpaydin & Kaynak, Optical Recognition of Handwritten Digits (UCI), as shipped with scikit-learn.
    """
    images, labels = _all_digits()
    if not 1 <= n <= len(images):
        raise ValueError(f"n={n} images asked for; allowed: 1 to {len(images)}")
    rng = np.random.default_rng(seed)
    pick = rng.permutation(len(images))[:n]
    x, y = images[pick], redraw_labels(labels[pick], label_noise, rng)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6 * images.max())
    return Dataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.int64))


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [1797, 64] and labels [1797], read from scikit-learn's file: to import its loader takes a second in each process."""
    package = importlib.util.find_spec("sklearn").submodule_search_locations[0]
    file = Path(package, "datasets", "data", "digits.csv.gz")
    if not file.is_file():
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def redraw_labels(labels: np.ndarray, share: float, rng: np.random.Generator, n_classes: int = 10) -> np.ndarray:
    """Labels [N] of which a share is drawn anew, uniformly over the classes."""
    if not 0 <= share <= 1:
        raise ValueError(f"label_noise={share} is no share; allowed: 0 to 1")
    labels = labels.copy()
    fresh = rng.permutation(len(labels))[: round(share * len(labels))]
    labels[fresh] = rng.integers(n_classes, size=len(fresh))
    return labels


@dataclass(frozen=True)
class Difficulty:
    """Settings of `synthetic_images`: pixel noise, elastic distortion (pixels), shift (pixels), shared part of the templates."""

    noise: float
    elastic: float
    shift: float
    overlap: float = 0.0


DIFFICULTIES = {
    "easy": Difficulty(0.6, 1.0, 2.0),
    "mid": Difficulty(0.8, 1.5, 2.5, 0.2),
    "hard": Difficulty(1.0, 1.5, 3.0, 0.3),
}


def synthetic_images(
    n: int, *, difficulty: str | Difficulty = "easy", label_noise: float = 0.0, size: int = 16, seed: int = 0
) -> Dataset:
    """n images [n, 1, size, size] of ten classes, standardised as a whole.

    Each class has a smooth Gaussian random field as template (blur 1.6 pixels); an image is the template
    shifted, elastically distorted (field of blur 3 pixels), scaled by a gain N(1, 0.2²) and covered by pixel noise.
    The templates depend on the seed alone, so a call for more images begins with the same templates.
    """
    if isinstance(difficulty, str):
        if difficulty not in DIFFICULTIES:
            raise ValueError(f"difficulty={difficulty!r} is unknown; allowed: {', '.join(DIFFICULTIES)}")
        difficulty = DIFFICULTIES[difficulty]
    templates = _smooth_fields(np.random.default_rng([seed, 0]), 11, size, blur=1.6)
    share = difficulty.overlap
    templates = np.sqrt(1 - share) * templates[:10] + np.sqrt(share) * templates[10]
    rng = np.random.default_rng([seed, 1])
    labels = rng.integers(10, size=n)
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    shift = rng.uniform(-difficulty.shift, difficulty.shift, (n, 2, 1, 1))
    field = difficulty.elastic * _smooth_fields(rng, 2 * n, size, blur=3.0).reshape(n, 2, size, size)
    where = grid + shift + field
    images = np.stack(
        [ndimage.map_coordinates(templates[k], w, order=1, mode="reflect") for k, w in zip(labels, where, strict=True)]
    )
    images = images * rng.normal(1, 0.2, (n, 1, 1)) + difficulty.noise * rng.normal(size=images.shape)
    images = (images - images.mean()) / images.std()
    return Dataset(torch.tensor(images[:, None], dtype=torch.float32), torch.tensor(redraw_labels(labels, label_noise, rng)))


def _smooth_fields(rng: np.random.Generator, n: int, size: int, blur: float) -> np.ndarray:
    """n Gaussian random fields [n, size, size] of unit root mean square."""
    fields = ndimage.gaussian_filter(rng.normal(size=(n, size, size)), (0, blur, blur), mode="wrap")
    return fields / np.sqrt((fields**2).mean((1, 2), keepdims=True))
