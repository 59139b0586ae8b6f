"""Freed memory stays with a process that trains: counted in page faults, in processes of their own."""

import platform
import subprocess
import sys

import pytest

from bcebook.training import memory

ROUNDS = """
import resource, sys
import torch
from bcebook.training import memory
if sys.argv[1] == "keep":
    assert memory.keep()
def round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.ones(4 * 2**20) for _ in range(3)]  # 16 MiB each
    large = torch.ones(16 * 2**20)                    # 64 MiB: beyond what glibc keeps by itself
    return float(large.sum()), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
round(), round()
sums, faults = zip(*(round() for _ in range(5)))
assert set(sums) == {float(16 * 2**20)}
print(sorted(faults)[2])  # the middle one: a heap takes some rounds to settle
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator alone can be told")
def test_what_is_freed_is_not_asked_for_again():
    faults = {how: int(subprocess.run([sys.executable, "-c", ROUNDS, how], check=True, capture_output=True,
                                      text=True).stdout) for how in ("keep", "plain")}
    pages = 64 * 2**20 // 4096  # the least that a plain process is given anew in each round
    assert faults["keep"] < pages / 100 and faults["plain"] > pages / 20  # huge pages make fewer faults


def test_another_allocator_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.keep() is False
