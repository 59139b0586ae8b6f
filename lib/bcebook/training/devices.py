"""Where a run is trained, and in which precision."""

import functools
import warnings

import torch

from bcebook.runs.config import RunConfig
from bcebook.runs.files import in_a_line


def resolve(device: str) -> torch.device:
    """ "auto" is CUDA where there is a GPU that this PyTorch can compute on, else the CPU. Raises ValueError if CUDA is
    asked for and cannot be had."""
    if device != "auto" and torch.device(device).type != "cuda":
        return torch.device(device)
    trouble = _cuda_trouble()
    if not trouble:
        return torch.device("cuda" if device == "auto" else device)
    if device != "auto":
        raise ValueError(f"device {device!r} was asked for, but {trouble}; use --device cpu, or see `bcebook doctor`.")
    if torch.cuda.is_available():
        warnings.warn(f"{trouble}; the CPU is used.", stacklevel=2)
    return torch.device("cpu")


@functools.cache
def _cuda_trouble() -> str:
    """Why CUDA cannot be used here, or "". A GPU that is newer or older than what this PyTorch was built for is there
    and fails at its first kernel."""
    if not torch.cuda.is_available():
        return "PyTorch finds no CUDA GPU here"
    try:
        (torch.zeros(1, device="cuda") + 1).item()
        return ""
    except RuntimeError as error:
        return f"this PyTorch cannot compute on the GPU here ({in_a_line(error)})"


def bfloat16(config: RunConfig, device: torch.device) -> bool:
    """Whether a run of `config` computes its backbone in bfloat16 on `device`: "auto" means where that is faster.

    "float32" is PyTorch's own: on a GPU its convolutions round what they multiply to TF32's 11 bits.
    """
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
