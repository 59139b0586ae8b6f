"""Many runs in turns within one process: for a GPU, where their kernels overlap, and for a deadline."""

import math
from dataclasses import dataclass
from pathlib import Path

from bcebook.runs.config import RunConfig
from bcebook.runs.store import open_store


@dataclass(frozen=True)
class Turns:
    """The `base.Executor` of one process: `at_once` runs take a step each in turn, into the store of `data`; measured:
    no more than fit in the GPU's memory."""

    data: Path
    device: str
    at_once: int = 1
    measured: bool = False

    def run(self, configs: list[RunConfig], deadline: float = math.inf) -> list[str]:
        """See `base.Executor.run`."""
        from bcebook.training.sessions import train_together  # only now: torch takes seconds

        store = open_store(self.data)
        return train_together(
            configs,
            store,
            self.device,
            self.at_once,
            deadline,
            data_root=self.data / "datasets",
            measured=self.measured,
        )
