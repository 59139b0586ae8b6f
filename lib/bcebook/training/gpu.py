"""What only a CUDA GPU has: a stream for each run, steps that are captured once and replayed, and going without."""

import warnings
import weakref
from collections import defaultdict
from contextlib import AbstractContextManager, contextmanager

import torch

from bcebook.runs.files import in_a_line

_TOLD: set[str] = set()  # the features that this process has said it goes without
_FREE: dict[torch.device, list] = defaultdict(list)  # streams whose runs are over


def on_gpu(device: torch.device) -> bool:
    """Whether what only a CUDA GPU has is to be used."""
    return device.type == "cuda"


def without(feature: str, error: Exception, instead: str) -> None:
    """Say, once in this process, that a feature of the GPU cannot be used, why, and what happens instead."""
    if feature not in _TOLD:
        _TOLD.add(feature)
        warnings.warn(f"{feature} cannot be used here ({in_a_line(error)}); {instead}.", stacklevel=3)


def stream_of(run: object, device: torch.device):
    """A CUDA stream that no other run has as long as `run` is there, so that several overlap; None, said once, where
    there are no streams.

    torch alone deals out 32 in turn: a long run would come to share its own with a short one that begins much later.
    """
    try:
        stream = _FREE[device].pop() if _FREE[device] else torch.cuda.Stream(device)
    except Exception as error:  # which kind, no document says
        without("a CUDA stream for each run", error, "the runs share one, and no step is captured, which is slower")
        return None
    weakref.finalize(run, _FREE[device].append, stream).atexit = False
    return stream


@contextmanager
def capturing(graph: "torch.cuda.CUDAGraph", stream) -> AbstractContextManager:
    """A context whose work on the GPU is not done but put into `graph`; `stream`: that of the run, `stream_of`.

    Never torch's own stream for captures. What cuBLAS works in belongs to the stream of a capture, not to the graph:
    graphs that were captured on one stream and replayed at the same time write into each other's matrix products.
    (Seen on an H200: of eight runs at once each ended with a training loss of 50 to 90, alone with 0.02, and without
    an error. pytorch/pytorch#193402.)
    """
    # A capture that fails leaves its own stream as the current one: the outer context puts back the one before.
    with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
        yield
