"""Random numbers: Philox against its published answers, and what makes a counter a good source of noise."""

import numba
import numpy as np
import pytest
import torch
from numba import uint32, uint64
from scipy import stats

from thermolab.systems import random
from thermolab.systems.kernels import BATCH, NOISE, START, box_muller, philox

# kat_vectors of Random123 (Salmon et al. 2011), philox4x32-10: counter, key, answer
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
EDGES = (0, 1, 2**31, 2**32 - 1, 0xDEADBEEF)  # of 32-bit counters
SEEDS = (0, 5, 2**32 + 7, 2**64 - 1)
# |normal| <= 5.8, and sine, cosine, logarithm and root are each good to a few units of 2^-24
FLOAT32_NORMAL = 5.8 * 8 * 2.0**-24


@numba.njit
def compiled_philox(counter, key):
    c0, c1, c2, c3 = counter
    return philox(uint32(c0), uint32(c1), uint32(c2), uint32(c3), uint32(key[0]), uint32(key[1]))


@numba.njit
def compiled_normals(out, seed, streams, first_step):
    """The draws of `compiled.advance_isotropic`."""
    n, n_replicas, count = out.shape
    for i in range(n):
        for r in range(n_replicas):
            for d in range(0, count, 4):
                words = philox(uint32(first_step + i), uint32(NOISE), streams[r], uint32(d // 4), uint32(seed),
                               uint32(seed >> uint64(32)))  # fmt: skip
                four = box_muller(words[0], words[1]) + box_muller(words[2], words[3])
                for k in range(min(4, count - d)):
                    out[i, r, d + k] = four[k]


def plain_philox(counter, key):
    """Philox-4x32-10 in Python's integers, after the paper."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        a, b = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (b >> 32) ^ c1 ^ k0, b % 2**32, (a >> 32) ^ c3 ^ k1, a % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def words(text):
    return tuple(int(w, 16) for w in text.split())


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter, key, answer):
    assert plain_philox(words(counter), words(key)) == words(answer)
    assert compiled_philox(np.array(words(counter), np.uint32), np.array(words(key), np.uint32)) == words(answer)


def test_known_answer_of_the_tensors():
    found = random._counters(0, torch.zeros(1, dtype=torch.int64), 0, 1, 1, 0)
    assert tuple(int(w) for w in found) == words(KNOWN[0][2])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("purpose", [NOISE, BATCH, START])
def test_tensors_and_compiled_draw_the_plain_words(seed, purpose):
    key = (seed % 2**32, seed >> 32)
    streams = torch.tensor(EDGES)
    for step in EDGES:
        found = torch.stack(random._counters(seed, streams, step, 1, 3, purpose), -1)[0]
        for r, stream in enumerate(EDGES):
            for block in range(3):
                expected = plain_philox((step, purpose, stream, block), key)
                assert tuple(found[r, block].tolist()) == expected
                assert compiled_philox(np.array([step, purpose, stream, block], np.uint32), np.array(key, np.uint32)) == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_normals_of_the_tensors_are_those_of_the_compiled_loops(seed):
    streams = torch.tensor([0, 3, 2**32 - 1, 17])
    out = np.empty((200, 4, 10), np.float32)
    compiled_normals(out, np.uint64(seed), streams.numpy().astype(np.uint32), 12345)
    expected = random.normals(seed, streams, 12345, 200, 10, torch.float64).numpy()
    np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT32_NORMAL)


@numba.njit
def pairs(a, b, out):
    for i in range(len(a)):
        out[i] = box_muller(a[i], b[i])


def test_box_muller_at_the_edges():
    """The smallest and the largest uniform, and the corners of the circle."""
    a, b = (v.ravel() for v in np.meshgrid(
        np.array([0, 255, 256, 2**31, 2**32 - 257, 2**32 - 1], np.uint32),
        np.array([0, 1, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 3 * 2**30, 2**32 - 1], np.uint32),
    ))  # fmt: skip
    out = np.empty((len(a), 2), np.float32)
    pairs(a, b, out)
    length, angle = np.sqrt(-2 * np.log(((a >> 8) + 1) * 2.0**-24)), b * (2 * np.pi / 2**32)
    expected = np.stack([length * np.cos(angle), length * np.sin(angle)], 1)
    np.testing.assert_allclose(out, expected, rtol=0, atol=FLOAT32_NORMAL)
    assert np.abs(expected).max() == pytest.approx(np.sqrt(48 * np.log(2)))


def test_moments_of_normals():
    x = random.normals(1, torch.arange(64), 0, 500, 33, torch.float64).numpy().ravel()
    n = x.size
    moments = (x.mean(), (x**2).mean() - 1, (x**3).mean(), (x**4).mean() - 3)
    errors = np.sqrt(np.array([1, 2, 15, 96]) / n)  # variances of x, x², x³, x⁴
    assert (np.abs(moments) <= 4 * errors).all()
    assert stats.kstest(x[:100_000], "norm").pvalue > 1e-4


@pytest.mark.parametrize("high", [7, 10, 256, 1797])
def test_indices_are_uniform(high):
    found = random.indices(2, torch.arange(50), 0, 100, 33, high)
    assert found.shape == (100, 50, 33)
    assert found.dtype == torch.int64
    counts = np.bincount(found.numpy().ravel(), minlength=high)
    assert len(counts) == high
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("seed", SEEDS)
def test_indices_are_the_high_words(seed):
    found = random.indices(seed, torch.tensor([4, 2**32 - 1]), 9, 2, 6, 1797)
    for i in range(2):
        for r, stream in enumerate((4, 2**32 - 1)):
            eight = [w for block in range(2) for w in plain_philox((9 + i, BATCH, stream, block), (seed % 2**32, seed >> 32))]
            assert found[i, r].tolist() == [w * 1797 >> 32 for w in eight[:6]]


def test_streams_steps_seeds_and_purposes_are_independent():
    streams, n = torch.arange(2000), 10
    base = random.normals(0, streams, 0, 1, n, torch.float64).flatten()
    others = [
        random.normals(0, streams + 2000, 0, 1, n, torch.float64),
        random.normals(0, streams, 1, 1, n, torch.float64),
        random.normals(1, streams, 0, 1, n, torch.float64),
        random.normals(2**32, streams, 0, 1, n, torch.float64),
        random.normals(0, streams, 0, 1, n, torch.float64, purpose=START),
        random.normals(0, streams, 0, 1, n, torch.float64, purpose=BATCH),
    ]
    everything = torch.stack([base, *(o.flatten() for o in others)]).numpy()
    correlation = np.corrcoef(everything)[np.triu_indices(len(everything), 1)]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(base.numel())  # 21 pairs
    neighbours = random.normals(0, streams, 0, 40, 8, torch.float64).numpy()
    for axis in range(3):
        x = np.moveaxis(neighbours, axis, 0)
        assert abs(np.corrcoef(x[1:].ravel(), x[:-1].ravel())[0, 1]) < 4 / np.sqrt(x.size)


def test_numbers_of_a_replica_depend_on_nothing_beside_it():
    many = random.normals(3, torch.arange(40), 0, 12, 10)
    assert torch.equal(random.normals(3, torch.tensor([17]), 5, 2, 10), many[5:7, 17:18])
    assert torch.equal(random.normals(3, torch.arange(40), 0, 12, 6), many[..., :6])
    picks = random.indices(3, torch.arange(40), 0, 12, 10, 99)
    assert torch.equal(random.indices(3, torch.tensor([17]), 5, 2, 10, 99), picks[5:7, 17:18])
    assert torch.equal(random.indices(3, torch.arange(40), 0, 12, 6, 99), picks[..., :6])


@pytest.mark.parametrize(("batch_size", "high"), [(4, 12), (5, 17), (7, 7), (1, 3)])
def test_without_replacement_an_epoch_has_each_index_once(batch_size, high):
    """What is left after the last whole batch is dropped, another in each epoch."""
    length, streams = high // batch_size, torch.arange(400)
    found = random.shuffled(5, streams, 0, 30 * length, batch_size, high).unflatten(0, (30, length))
    epochs = found.transpose(1, 2).flatten(2)  # [epoch, R, drawn]
    assert all(len(set(row)) == length * batch_size for row in epochs.flatten(0, 1).tolist())
    for place in (0, -1):
        counts = np.bincount(epochs[..., place].ravel().numpy(), minlength=high)
        assert stats.chisquare(counts).pvalue > 1e-4
    again = (epochs[1:] == epochs[:-1]).double().mean().item()  # a new order each time
    assert abs(again - 1 / high) < 4 / np.sqrt(high * epochs[1:, :, 0].numel())


def test_orders_are_equally_likely():
    found = random.shuffled(9, torch.arange(6000), 0, 3, 1, 3)[..., 0].T
    assert stats.chisquare(np.unique(found.numpy(), axis=0, return_counts=True)[1]).pvalue > 1e-4
    assert len(found.unique(dim=0)) == 6


def test_an_order_depends_on_seed_stream_and_epoch_alone():
    many = random.shuffled(3, torch.arange(40), 0, 60, 5, 38)  # seven steps an epoch
    for first, n in ((0, 1), (6, 3), (7, 7), (20, 40), (59, 1)):
        assert torch.equal(random.shuffled(3, torch.tensor([17, 2]), first, n, 5, 38), many[first : first + n, [17, 2]])
    assert not torch.equal(random.shuffled(4, torch.arange(40), 0, 60, 5, 38), many)
    whole = random.shuffled(3, torch.arange(40), 0, 8, 35, 38)  # the same order in larger batches
    assert torch.equal(whole[0], many[:7].transpose(0, 1).flatten(1))


def test_more_than_the_data_cannot_be_drawn_without_replacement():
    with pytest.raises(ValueError, match=r"batch_size=8 without replacement; allowed: 1 to 7, the number of data"):
        random.shuffled(0, torch.arange(2), 0, 1, 8, 7)
