"""Features that a run keeps: those of a few training images at a few epochs, to look at how they move."""

import base64

import numpy as np
import torch
from torch import Tensor, nn

from bcebook.training.images import Images

KEPT_EPOCHS = 10


def kept_epochs(epochs: int) -> list[int]:
    """The epochs after which features are kept: before training, then ever more rarely, and the last."""
    return sorted({0, *np.geomspace(1, epochs, KEPT_EPOCHS - 1).round().astype(int).tolist()})


class FeatureSnapshots:
    """The features of `count` training images, the same for every run on these images, at `kept_epochs`.

    found: (n, d) float16 for each epoch so far; what a checkpoint has to carry. Raises ValueError where there are fewer
    images than that.
    """

    def __init__(self, count: int, epochs: int, images: Images):
        size = len(images.x_train)
        if count > size:
            raise ValueError(f"keep_features is {count}; there are {size} training images.")
        chosen = np.sort(np.random.default_rng(0).permutation(size)[:count])
        self.images, self.epochs, self.found = images, kept_epochs(epochs), []
        self.chosen = torch.from_numpy(chosen).to(images.x_train.device)

    @torch.inference_mode()
    def look(self, model: nn.Module, epoch: int, autocast: bool) -> None:
        """Keep the features of `epoch`, if it is one of those."""
        if epoch in self.epochs:
            model.eval()
            parts = []
            for chosen in self.chosen.split(500):
                x = self.images.normalise(self.images.x_train[chosen])
                with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=autocast):
                    parts.append(model(x)[1].half().cpu())
            self.found.append(torch.cat(parts))

    def to_dict(self) -> dict:
        """As `runs.files.Run` has it."""
        values = torch.stack(self.found).numpy().astype("<f2")
        return {
            "labels": self.images.y_train[self.chosen].tolist(),
            "epochs": self.epochs,
            "width": values.shape[2],
            "values": base64.b64encode(values.tobytes()).decode(),
        }


def decode(features: dict) -> Tensor:
    """The features of a stored run, (E, n, d) float32."""
    shape = len(features["epochs"]), len(features["labels"]), features["width"]
    values = np.frombuffer(base64.b64decode(features["values"]), "<f2").reshape(shape)
    return torch.from_numpy(values.astype(np.float32))
