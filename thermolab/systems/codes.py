"""What compiled loops know by a number: protocols, kinds of layers and the columns of a plan. Each is numbered here alone."""

from __future__ import annotations

from enum import IntEnum


class ProtocolCode(IntEnum):
    """The protocols of `updates`, whose names are these in small letters."""

    ELR = 0
    LR = 1
    SPHERE = 2


class LayerKind(IntEnum):
    """Layers of a chain that `compiled_mlp` takes; `replicas.LAYERS` says which module each is."""

    LINEAR = 0
    RELU = 1
    TANH = 2
    BATCH_NORM = 3
    LAYER_NORM = 4


# Columns of a plan, one row per layer: widths, and where weights and bias begin among the trainable weights and the weight among
# the frozen ones; -1 where there is none. The bias of a frozen layer is an offset into the frozen ones.
KIND, N_IN, N_OUT, WEIGHT, BIAS, FROZEN = COLUMNS = range(6)


def protocol_code(name: str) -> int:
    """The number of a protocol, given by its name.

    >>> [protocol_code(name) for name in ("elr", "lr", "sphere")]
    [0, 1, 2]
    """
    return int(ProtocolCode[name.upper()])
