"""Several processes that train one run together, each with its share of every batch; outside of `joined` there is one,
the first."""

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch import distributed as dist


@contextlib.contextmanager
def joined(device: str) -> Iterator[str]:
    """Meet the other processes that torchrun has started; the device of this one: with CUDA, the GPU of its number on
    this machine."""
    cuda = torch.device(device).type == "cuda"
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield device
    finally:
        dist.destroy_process_group()


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Whether this is the one that writes."""
    return rank() == 0


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model for a forward pass in training: gradients are then the mean over all processes. Batch statistics are
    of each process's own images; the running ones are the first's."""
    if world() == 1:
        return model
    return nn.parallel.DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def agree(model: nn.Module) -> None:
    """Give every process the first's running batch statistics, so that all measure the same network."""
    if world() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    if world() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def interleaved(own: Tensor) -> Tensor:
    """The whole of what was dealt out in turn (element i to process i modulo `world`), in every process."""
    if world() == 1:
        return own
    count = int(total(torch.tensor(len(own), device=own.device)))
    most = -(-count // world())
    padded = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
    parts = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(parts, padded)
    return torch.stack(parts, dim=1).flatten(0, 1)[:count]
