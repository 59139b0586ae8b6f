"""One run at a time, trained by all processes of torchrun together: for several GPUs."""

import math
import os
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs.config import RunConfig
from bcebook.runs.specs import STREAMED
from bcebook.runs.store import open_store


def asked() -> bool:
    """Whether torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass(frozen=True)
class Together:
    """The `base.Executor` of torchrun's processes, each of which calls it; the first writes into the store of `data`.
    They share the batches of streamed data sets alone: other runs are left out, with a sentence."""

    data: Path
    device: str

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`. Raises ValueError for a deadline: the processes would not stop at the same step."""
        if deadline < math.inf:
            raise ValueError("a time limit cannot be kept by several processes together; use `bcebook train`.")
        from bcebook.training import ranks
        from bcebook.training.sessions import train_together

        shared = [config for config in configs if config.dataset in STREAMED]
        streamed = " and ".join(spec.display for spec in STREAMED.values())
        problems = (
            [
                f"{len(configs) - len(shared)} left out: torchrun's processes share only runs on {streamed}; train "
                "the others without it."
            ]
            if len(shared) < len(configs)
            else []
        )
        with ranks.joined(self.device) as device:
            problems += train_together(
                shared, open_store(self.data), device, 1, progress=ranks.first(), data_root=self.data / "datasets"
            )
            return problems if ranks.first() else []
