"""One run in progress: mini-batches on the CPU or on CUDA, interrupted and resumed after any of them."""

import math
import warnings
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn

from bcebook.runs.config import RunConfig
from bcebook.runs.provenance import engine_version
from bcebook.runs.specs import NETWORKS
from bcebook.science.losses import LOSSES
from bcebook.training import checkpoint, datasets, devices, gpu, heads, measure, models, optimizers
from bcebook.training.images import Images
from bcebook.training.kept import FeatureSnapshots
from bcebook.training.streamed import Folders, Streamed

OWN = ("autocast", "epoch", "batch", "seconds", "resumed", "noise")  # of a Training's state, what is stored as it is


class RunFailed(RuntimeError):
    """A run ended without a result (its loss stopped being a number); the message says when and what to try."""


def penalty(config: RunConfig, classifier: nn.Module, features: Tensor) -> Tensor | float:
    """The decoupled decay of features (B, d): lambda_w/2 |W|^2 + lambda_h/2 sum |h|^2 + lambda_b/2 |b|^2.

    The feature term is a sum, not a mean, as in the authors' code: a batch of B minimises the theory's objective with
    lambda_h B / N in the place of lambda_h.
    """
    if config.decay == "global":
        return 0.0
    term = config.lambda_w / 2 * classifier.weight.square().sum()
    term = term + config.lambda_h / 2 * features.float().square().sum()
    return term + config.lambda_b / 2 * classifier.bias.square().sum() if config.lambda_b else term


def _images(config: RunConfig, dataset: datasets.Dataset | Folders, device: torch.device) -> Images | Streamed:
    how = config.augmentation, device, config.seed, NETWORKS[config.model]
    if isinstance(dataset, Folders):
        return Streamed(dataset, *how)
    part = dataset.subset(config.train_size, config.imbalance_factor, config.held_out)
    return Images(part.with_random_labels() if config.random_labels else part, *how)


class Training:
    """A run in progress. Call `step` until `done`, then read history, final, scores, and outputs (training, test).

    Only an epoch's last step waits for a GPU. `step` raises RunFailed where loss or logits are no longer finite.
    """

    def __init__(self, config: RunConfig, dataset: datasets.Dataset | Folders, device: torch.device):
        self.config, self.device, self.autocast = config, device, devices.bfloat16(config, device)
        self.epoch = self.batch = 0  # epochs finished; batches finished of the epoch in progress
        self.seconds, self.resumed = 0.0, 0  # spent so far, over all attempts; attempts that went on from a checkpoint
        self.history, self.final, self.scores, self.outputs = defaultdict(list), {}, {}, None
        self.images = images = _images(config, dataset, device)
        self.batches = images.batch_count(config.batch_size)  # in an epoch
        self.drops, self.noise = False, None  # whether the network has dropout; the random state it goes on from
        with self._random_numbers():
            torch.manual_seed(config.seed)
            head = partial(heads.build, config)
            model = models.build(config.model, images.num_classes, images.in_channels, head=head, frozen=config.frozen)
            self.drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = optimizers.build(config, self.model, device)
        self.kept = FeatureSnapshots(config.keep_features, config.epochs, images) if config.keep_features else None
        self.loss_sum = torch.zeros((), device=device)
        every = measure.measured_epochs(config.epochs, config.augmentation != "none")
        self.full = {config.epochs} if config.held_out else every  # after which the training set is measured too
        gpu.prepare(self)

    @property
    def done(self) -> bool:
        return self.epoch == self.config.epochs

    @property
    def steps(self) -> int:
        """Mini-batches so far."""
        return self.epoch * self.batches + self.batch

    def step(self) -> None:
        """One mini-batch, and what belongs before the first and after the last of an epoch."""
        with torch.cuda.stream(self.stream) if self.stream else nullcontext():
            if self.steps == 0:
                self._record(math.nan, math.nan)  # the network before training
            if self.batch == 0:
                self._begin_epoch()
            # Where the rate changes by the batch, the one at the middle of the batch.
            optimizers.set_rate(self.optimizer, self.config.rate(self.epoch + 1, (self.batch + 0.5) / self.batches))
            gpu.update(self, *self.images.chosen(self.batch, self.config.batch_size))
            self.batch += 1
            if self.batch == self.batches:
                self._end_epoch()

    def _begin_epoch(self) -> None:
        self.model.train()
        self.images.shuffle(self.config.batch_size)
        self.loss_sum.zero_()

    def _mini_batch(self, chosen: Tensor, mixture: Tensor) -> None:
        x, target = self.images.batch(chosen, mixture)
        autocast = torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)
        with self._random_numbers() if self.drops else nullcontext(), autocast:
            logits, features = self.model(x)
        loss = LOSSES[self.config.loss](logits, target, self.config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + penalty(self.config, self.model.classifier, features)).backward()
        self.optimizer.step()
        self.loss_sum += loss.detach() * len(chosen)

    def _end_epoch(self) -> None:
        loss = float(self.loss_sum) / min(self.batches * self.config.batch_size, self.images.train_count)
        self.epoch, self.batch = self.epoch + 1, 0
        if not math.isfinite(loss):
            self._fail(f"the loss became {loss}")
        self._record(self.config.rate(self.epoch), loss)

    def _record(self, rate: float, loss: float) -> None:
        """A row of the history, and after the last epoch the final figures, from the same outputs."""
        classifier, test = self.model.classifier, self._outputs("test")
        row = {"epoch": float(self.epoch), "learning_rate": rate, "train_loss": loss} | measure.biases(classifier.bias)
        row |= {"bias_pace": measure.bias_pace(self.optimizer, classifier.bias)} | measure.every_row(test)
        row |= dict.fromkeys(measure.MEASURED, math.nan)
        if self.epoch in self.full:
            train = self._outputs("train")
            row |= measure.row(classifier, train)
            if self.done:
                self.outputs = train, test
                self.final, self.scores = measure.final(classifier, train, test)
                self.final |= measure.by_shots(train, test) if self.config.imbalance_factor else {}
        if self.kept:
            self.kept.look(self.model, self.epoch, self.autocast)
        for name, value in row.items():
            self.history[name].append(value)

    def _outputs(self, split: str) -> measure.Outputs:
        found = measure.outputs(self.model, self.images, split, self.autocast)
        if not found.finite():
            self._fail("the logits were no longer finite")
        return found

    def _fail(self, what: str):
        where, rate = f"epoch {self.epoch} of {self.config.epochs}", self.config.learning_rate
        raise RunFailed(f"{what} in {where}; a smaller learning_rate than {rate:g} may help.")

    @contextmanager
    def _random_numbers(self):
        """torch's global generator goes on from `noise`; the caller's state does not enter, and is back afterwards."""
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            if self.noise is not None:
                torch.cuda.set_rng_state(self.noise, *cuda) if cuda else torch.set_rng_state(self.noise)
            yield
            if self.drops:
                self.noise = torch.cuda.get_rng_state(*cuda) if cuda else torch.get_rng_state()

    def state(self) -> dict:
        """Everything that decides the steps to come, as tensors and plain data."""
        if self.stream:
            self.stream.synchronize()  # whoever copies it to the host does so on another stream, which does not wait
        parts = {"loss_sum": self.loss_sum, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        parts |= {"images": self.images.state(), "kept": self.kept and self.kept.found, "history": dict(self.history)}
        written = {"engine": engine_version(), "device": self.device.type}
        return written | {name: getattr(self, name) for name in OWN} | parts

    def weights(self) -> dict:
        """What measures the network again: its weights and batch statistics, and whose they are."""
        model = {name: value.cpu() for name, value in self.model.state_dict().items()}
        return {"engine": engine_version(), "config": self.config.to_dict(), "autocast": self.autocast, "model": model}

    def resume(self, folder) -> None:
        """Go on from the newest whole checkpoint in `folder`, if there is one and the same engine wrote it on the same
        kind of device; else warn, and begin anew."""
        if (state := checkpoint.latest(folder)) is None:
            return
        same_engine = (state.get("engine"), state.get("autocast")) == (engine_version(), self.autocast)
        if not same_engine or state.get("device") != self.device.type:  # random numbers differ between kinds of devices
            other = "on another kind of device" if same_engine else "by another version of the engine"
            warnings.warn(f"{folder} was written {other}; the run starts anew.", stacklevel=2)
            return
        for name in OWN:
            setattr(self, name, state[name])
        self.resumed += 1
        self.history = defaultdict(list, state["history"])
        self.loss_sum.copy_(state["loss_sum"])
        self.images.restore(state["images"])
        if self.kept:
            self.kept.found = state["kept"]
        self.model.load_state_dict(state["model"])
        # The rate, and how a step is computed, are this training's own: fused or not, captured or not.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict(state["optimizer"] | {"param_groups": groups})
        self.model.train()
        if gpu.on_gpu(self.device):
            torch.cuda.synchronize(self.device)
