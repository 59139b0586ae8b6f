"""Time and peak memory of the two heavy measures at the book's largest sizes: python ci/bench_metrics.py

Each runs in a process of its own. Peak memory is what the process held at most beyond the inputs, which are made in
place so that making them leaves no higher peak behind.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

LIB = Path(__file__).resolve().parents[1] / "lib"


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name: str) -> None:
    import torch

    from bcebook.science import metrics, uniform

    g = torch.Generator().manual_seed(0)
    N, K, d = 50_000, 1_000, 2_048
    labels = torch.arange(N) % K                                              # (N,)
    if name == "uniform_accuracy":
        logits = torch.empty(N, K).normal_(generator=g)                       # (N, K) float32
        logits[torch.arange(N), labels] += 4
        call = lambda: uniform.uniform_accuracy(logits, labels)
        size = f"{N:,} x {K:,} float32"
    else:
        features = torch.empty(N, d).normal_(generator=g)                     # (N, d) float32
        weight = torch.empty(K, d).normal_(generator=g)                       # (K, d)
        call = lambda: metrics.neural_collapse(features, labels, weight)
        size = f"{N:,} x {d:,} float32, {K:,} classes"
    before, start = peak_mib(), time.perf_counter()
    result = call()
    seconds, grown = time.perf_counter() - start, peak_mib() - before
    print(f"{name:17} {size:36} {torch.get_num_threads()} threads {seconds:7.2f} s "
          f"{grown:7.0f} MiB beyond the inputs   {result}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for name in ("uniform_accuracy", "neural_collapse"):
            path = os.pathsep.join(filter(None, [str(LIB), os.environ.get("PYTHONPATH")]))
            subprocess.run([sys.executable, __file__, name], check=True, env=os.environ | {"PYTHONPATH": path})
