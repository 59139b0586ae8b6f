"""The optimizer of a run: SGD with momentum, or AdamW, fused where the device has it."""

import torch
from torch import nn

from bcebook.runs.config import RunConfig
from bcebook.training import gpu


def build(config: RunConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Of the parameters that are trained: all, or a frozen network's head. On CUDA the learning rate is a tensor, since
    a CUDA graph repeats what it saw and the rate has to be changed in place."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not gpu.on_gpu(device):
        return _new(config, trained)

    def new(parameters) -> torch.optim.Optimizer:
        optimizer = _new(config, parameters, capturable=True)
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(config.learning_rate, device=device)
        return optimizer

    scratch = nn.Parameter(torch.zeros(1, device=device))
    scratch.grad = torch.zeros_like(scratch)
    try:
        new([scratch]).step()  # not on the model, which a step that fails would leave half changed
        torch.cuda.synchronize(device)
        return new(trained)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # which kind, no document says
        gpu.without(
            "the fused optimizer with its rate as a tensor", error, "the plain one is, and with it no CUDA graph"
        )
        return _new(config, trained, fused=False)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _new(config: RunConfig, parameters, fused: bool = True, capturable: bool = False) -> torch.optim.Optimizer:
    rate, decay = config.learning_rate, config.weight_decay or 0.0
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=fused, capturable=capturable)
