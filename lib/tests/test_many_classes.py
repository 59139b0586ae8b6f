"""Measures of thousands of classes: the values of their definitions, in memory that grows with K and not with K x K."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bcebook.science import metrics, theory

K = 1100  # more than are measured with K x K matrices


def by_definition(A: np.ndarray, B: np.ndarray) -> float:
    """Distance of A B' from the simplex ETF's Gram matrix, each over its Frobenius norm."""
    M, etf = A @ B.T, (np.eye(len(A)) - 1 / len(A)) / math.sqrt(len(A) - 1)
    return np.linalg.norm(M / np.linalg.norm(M) - etf)


def measured(H: np.ndarray, W: np.ndarray) -> list[float]:
    found = metrics.neural_collapse(H, np.arange(len(H)), W)
    return [found.nc2, found.nc2_means, found.nc3]


@pytest.mark.parametrize("d", [1, 3, 64, K - 2, K - 1, K])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_nc2_and_nc3_are_their_definitions(d, offset):
    rng = np.random.default_rng(d)
    H, W = (rng.standard_normal((K, d)) + offset for _ in range(2))
    W[:, :1] += H[:, :1]  # not orthogonal
    Hc = H - H.mean(axis=0)
    want = [by_definition(W, W), by_definition(Hc, Hc), by_definition(W, Hc)]
    assert measured(H, W) == pytest.approx(want, rel=1e-10)


@pytest.mark.parametrize("classes", [3, 20, 200])
def test_the_two_ways_agree_for_few_classes(classes, monkeypatch):
    for d in {1, 2, classes // 2, classes - 2, classes - 1, classes + 3}:
        rng = np.random.default_rng(d)
        H, W, y = rng.standard_normal((classes, d)), rng.standard_normal((classes, d)), np.arange(classes).repeat(2)
        H = H.repeat(2, axis=0)
        both = []
        for dense in (1024, 2):
            monkeypatch.setattr(metrics, "DENSE", dense)
            found = metrics.neural_collapse(H, y, W)
            cosines = [vars(metrics.mean_cosines(H, y, centred)) for centred in (False, True)]
            both.append([found.nc2, found.nc2_means, found.nc3, *(x for each in cosines for x in each.values())])
        assert both[1] == pytest.approx(both[0], rel=1e-10, abs=1e-14)


def test_complete_collapse_of_many_classes_is_zero():
    etf = theory.simplex_etf(K, K - 1)
    assert max(measured(3 * etf + 1, 0.5 * etf)) < 1e-11


@pytest.mark.parametrize("d", [1, 30, K - 2])
def test_the_nearest_that_few_dimensions_come_to_an_etf(d):
    # A Gram matrix of rank d with equal eigenvalues, orthogonal to 1: its product with the ETF's is sqrt(d / (K - 1)).
    frame = np.linalg.qr(np.hstack([np.ones((K, 1)), np.random.default_rng(0).standard_normal((K, d))]))[0][:, 1:]
    assert measured(frame, frame) == pytest.approx([math.sqrt(2 - 2 * math.sqrt(d / (K - 1)))] * 3, rel=1e-10)


def test_nothing_to_measure_is_nan():
    nc2, _, nc3 = measured(np.random.default_rng(0).standard_normal((K, 4)), np.zeros((K, 4)))
    assert math.isnan(nc2) and math.isnan(nc3)


@pytest.mark.parametrize("classes", [1024, 1025, 1449, 2897])  # of one block, of several, and one row left over
@pytest.mark.parametrize("centred", [False, True])
def test_cosines_are_those_of_all_pairs(classes, centred):
    H = np.random.default_rng(classes).standard_normal((classes, 5)) + 1
    M = H - H.mean(axis=0) if centred else H
    unit = M / np.linalg.norm(M, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(classes, 1)]
    found = metrics.mean_cosines(H, np.arange(classes), centred)
    assert (found.mean, found.std, found.largest) == pytest.approx((pairs.mean(), pairs.std(), pairs.max()), rel=1e-10)


def test_cosines_of_a_complete_etf_do_not_vary():
    found = metrics.mean_cosines(theory.simplex_etf(K, K), np.arange(K), centred=True)
    assert (found.mean, found.largest) == pytest.approx((-1 / (K - 1),) * 2, abs=1e-12) and found.std < 1e-13


@pytest.mark.parametrize("classes", [838, 2000])
def test_nc4_by_every_distance(classes):
    rng = np.random.default_rng(0)
    h, z, means = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((5100, 2), (5100, classes), (classes, 2)))
    nearest = np.array([((means - each) ** 2).sum(dim=1).argmin().item() for each in h])
    assert metrics.nc4(h, z, means) == np.mean(nearest != z.argmax(dim=1).numpy())


MEASURE = """
import torch
from bcebook.science import metrics
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 2**10
torch.manual_seed(0)
h, y, W = torch.randn({N}, 64), torch.arange({N}) % {K}, torch.randn({K}, 64)
z = h[:5000] @ W.T
def measure(h, y, W, z):
    metrics.neural_collapse(h, y, W), metrics.mean_cosines(h, y, True), metrics.distinctiveness(h, y)
    metrics.nc4(h[:len(z)], z, metrics.class_means(h, y)), metrics.compactness(h, y)
measure(h[:20], y[:20] % 5, W[:5], z[:20, :5])
before = peak()
measure(h, y, W, z)
print(peak() - before)
"""


# Not by getrusage, whose peak a new process inherits from the one that starts it.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_stays_linear_in_the_number_of_classes():
    said = subprocess.run([sys.executable, "-c", MEASURE.format(N=16_000, K=8000)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert float(said.stdout) < 200  # MiB; a single 8,000 x 8,000 matrix takes 488
