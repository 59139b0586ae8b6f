"""Freed memory stays with a process that trains: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

from bcebook.training import memory

ROUNDS = """
import resource
import torch
from bcebook.training import memory
def round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(4 * 2**20) for _ in range(3)]  # 16 MiB each
    large = torch.ones(16 * 2**20)                    # 64 MiB: beyond what glibc keeps by itself
    return float(large.sum()), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
for how in ("plain", "keep"):
    if how == "keep":
        assert memory.keep()
    round(), round()
    sums, faults = zip(*(round() for _ in range(5)))
    assert set(sums) == {float(16 * 2**20)}
    print(min(faults))  # a heap takes some rounds to settle, and a busy machine takes pages away
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
def test_what_is_freed_is_not_asked_for_again():
    out = subprocess.run([sys.executable, "-c", ROUNDS], check=True, capture_output=True, text=True).stdout
    plain, keep = map(int, out.split())
    pages = 64 * 2**20 // 4096  # the least that a plain process is given anew in each round
    assert keep < pages / 100 and plain > pages / 20  # huge pages make fewer faults


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.keep() is False
