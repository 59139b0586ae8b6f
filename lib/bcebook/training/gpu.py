"""What only a CUDA GPU has: a stream for the run, a step that is captured once and replayed, and going without."""

import warnings
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor

from bcebook.runs.files import in_a_line
from bcebook.training.images import Images

# Steps before one is captured as a graph, so that every library is set up and every buffer is there.
EAGER_STEPS = 3
_TOLD: set[str] = set()  # the features that this process has said it goes without


def on_gpu(device: torch.device) -> bool:
    """Whether what only a CUDA GPU has is to be used."""
    return device.type == "cuda"


def without(feature: str, error: Exception, instead: str) -> None:
    """Say, once in this process, that a feature of the GPU cannot be used, why, and what happens instead."""
    if feature not in _TOLD:
        _TOLD.add(feature)
        warnings.warn(f"{feature} cannot be used here ({in_a_line(error)}); {instead}.", stacklevel=3)


def new_stream(device: torch.device):
    """A CUDA stream for a run; None, said once, where there are no streams."""
    try:
        return torch.cuda.Stream(device)
    except Exception as error:  # which kind, no document says
        without("a CUDA stream for each run", error, "the runs share one, and no step is captured, which is slower")
        return None


def prepare(training) -> None:
    """Give a `loop.Training` what `update` needs: a stream of its own, and whether its steps are to be captured."""
    training.graph, training.eager_steps, training.inputs, training.stream = None, 0, (), None
    training.graphs = False
    if not on_gpu(training.device):
        return
    training.stream = new_stream(training.device)
    # A graph needs a stream of its own, the learning rate in a tensor (it would freeze a number), images on the device,
    # and no dropout, whose generator all runs share.
    rate = training.optimizer.param_groups[0]["lr"]
    capturable = isinstance(rate, Tensor) and isinstance(training.images, Images) and not training.drops
    training.graphs = training.stream is not None and capturable
    torch.backends.cudnn.benchmark = True  # every batch has the same shape: trying the algorithms once pays
    torch.cuda.synchronize(training.device)  # what was put there on the default stream is complete before ours begins


def update(training, chosen: Tensor, mixture: Tensor) -> None:
    """One mini-batch of a `loop.Training`: at once, or, on CUDA, as the replay of a graph that was captured from the
    same code. Incomplete batches and the first steps are always computed at once."""
    if not training.graphs or len(chosen) < training.config.batch_size or training.eager_steps < EAGER_STEPS:
        training.eager_steps += 1
        return training._mini_batch(chosen, mixture)
    if not training.graph and not _capture(training, chosen, mixture):
        return training._mini_batch(chosen, mixture)
    for slot, value in zip(training.inputs, (chosen, mixture), strict=True):
        slot.copy_(value)
    training.graph.replay()


def _capture(training, chosen: Tensor, mixture: Tensor) -> bool:
    """Make the graph of a step, which runs nothing yet; False where that cannot be done, and never will."""
    images, optimizer = training.images, training.optimizer
    state = images.generator.get_state()
    training.inputs = chosen.clone(), mixture.clone()
    optimizer.zero_grad(set_to_none=True)  # the gradients then lie in the graph's own memory
    try:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(images.generator)
        with _capturing(graph, training.stream):
            training._mini_batch(*training.inputs)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        without("CUDA graphs", error, "each step's kernels are started one by one, which is slower")
        training.graphs = False
    else:
        training.graph = graph
        return True
    # What is left of the attempt: gradients in its memory, and a generator that waits for it to end.
    optimizer.zero_grad(set_to_none=True)
    images.generator = torch.Generator(training.device)
    images.generator.set_state(state)
    return False


@contextmanager
def _capturing(graph: "torch.cuda.CUDAGraph", stream) -> AbstractContextManager:
    """A context whose work on the GPU is not done but put into `graph`; `stream`: that of the run.

    Never torch's own stream for captures. What cuBLAS works in belongs to the stream of a capture, not to the graph:
    graphs that were captured on one stream and replayed at the same time write into each other's matrix products.
    (Seen on an H200: of eight runs at once each ended with a training loss of 50 to 90, alone with 0.02, and without
    an error. pytorch/pytorch#193402.)
    """
    # A capture that fails leaves its own stream as the current one: the outer context puts back the one before.
    with torch.cuda.stream(stream), torch.cuda.graph(graph, stream=stream):
        yield
