"""One run in progress: a mini-batch at a time, on the CPU or on CUDA, put aside and taken up at any of them."""

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
from bcebook.training import checkpoint, devices, gpu, heads, measure, models, optimizers
from bcebook.training import datasets as data
from bcebook.training.images import Images
from bcebook.training.kept import FeatureSnapshots
from bcebook.training.streamed import Folders, Streamed


class RunFailed(RuntimeError):
    """A run ended without a result (its loss stopped being a number); the message says when and what to try."""


def penalty(config: RunConfig, classifier: nn.Module, features: Tensor) -> Tensor | float:
    """The decoupled decay of a mini-batch: lambda_w/2 |W|^2 + lambda_h/2 sum over the batch of |h|^2 + lambda_b/2
    |b|^2.

    The feature term is a sum, not a mean, as in the authors' code: a batch of B minimises the theory's objective with
    lambda_h B / N in the place of lambda_h.
    """
    if config.decay == "global":
        return 0.0
    term = config.lambda_w / 2 * classifier.weight.square().sum()
    term = term + config.lambda_h / 2 * features.float().square().sum()
    return term + config.lambda_b / 2 * classifier.bias.square().sum() if config.lambda_b else term


def _images(config: RunConfig, dataset: data.Dataset | Folders, device: torch.device) -> Images | Streamed:
    network = NETWORKS[config.model]
    if isinstance(dataset, Folders):
        return Streamed(dataset, config.augmentation, device, config.seed, network)
    part = dataset.subset(config.train_size, config.imbalance_factor, config.held_out)
    part = part.with_random_labels() if config.random_labels else part
    return Images(part, config.augmentation, device, config.seed, network)


class Training:
    """One run in progress, with all that decides how it goes on: `step` until `done`, then read history, final and
    scores.

    No step but the last of an epoch waits for a GPU.
    """

    def __init__(self, config: RunConfig, dataset: data.Dataset | Folders, device: torch.device):
        self.config, self.device = config, device
        self.autocast = devices.bfloat16(config, device)
        self.epoch = self.batch = 0  # epochs finished; batches finished of the epoch in progress
        self.seconds, self.resumed = 0.0, 0  # spent so far, over all attempts; attempts that went on from a checkpoint
        self.history, self.final, self.scores = defaultdict(list), {}, {}
        self.outputs = None  # of the finished network on the training and the test set
        self.images = _images(config, dataset, device)
        # The caller's random state neither enters nor changes. After the weights are drawn only dropout uses the global
        # generator, from the state in `noise`.
        with self._own_generator():
            torch.manual_seed(config.seed)
            model = models.build(
                config.model,
                self.images.num_classes,
                self.images.in_channels,
                head=partial(heads.build, config),
                frozen=config.frozen,
            )
            drops = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
            self.noise = self._generator_state() if drops else None
        self.model = model.to(device, memory_format=torch.channels_last)
        self.optimizer = optimizers.build(config, self.model, device)
        self.kept = FeatureSnapshots(config.keep_features, config.epochs, self.images) if config.keep_features else None
        self.loss_sum = torch.zeros((), device=device)
        self.batches = self.images.batch_count(config.batch_size)
        # Of a run that only picks a setting, the result is all that is looked at.
        self.full = (
            {config.epochs}
            if config.held_out
            else measure.measured_epochs(config.epochs, config.augmentation != "none")
        )
        self.graph, self.eager_steps, self.inputs = None, 0, ()
        self.stream = gpu.new_stream(device) if gpu.on_gpu(device) else None
        # Whether the steps are to be captured: not without a stream of its own, not where the rate is a number, which a
        # graph would freeze, not where it draws dropout from a generator that all runs share, and not of images that
        # come from the host.
        self.graphs = (
            self.stream is not None
            and isinstance(self.optimizer.param_groups[0]["lr"], Tensor)
            and not drops
            and isinstance(self.images, Images)
        )
        if gpu.on_gpu(device):
            torch.backends.cudnn.benchmark = True  # every batch has the same shape: trying the algorithms once pays
            torch.cuda.synchronize(device)  # what was put there on the default stream is complete before ours begins

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
            if self.batch == 0:
                if self.epoch == 0:
                    self._record(math.nan, math.nan)  # the network before training
                self._begin_epoch()
            if self.batch == 0 or self.config.by_batch:
                self._set_rate()
            gpu.update(self, *self.images.chosen(self.batch, self.config.batch_size))
            self.batch += 1
            if self.batch == self.batches:
                self._end_epoch()

    def _begin_epoch(self) -> None:
        self.model.train()
        self.images.shuffle(self.config.batch_size)
        self.loss_sum.zero_()

    def _set_rate(self) -> None:
        # Of a batch: the rate at its middle.
        optimizers.set_rate(self.optimizer, self.config.rate(self.epoch + 1, (self.batch + 0.5) / self.batches))

    def _end_epoch(self) -> None:
        loss = float(self.loss_sum) / min(self.batches * self.config.batch_size, self.images.train_count)
        self.epoch, self.batch = self.epoch + 1, 0
        if not math.isfinite(loss):
            self._fail(f"the loss became {loss}")
        self._record(self.config.rate(self.epoch), loss)

    def _fail(self, what: str):
        raise RunFailed(
            f"{what} in epoch {self.epoch} of {self.config.epochs}; a smaller learning_rate than "
            f"{self.config.learning_rate:g} may help."
        )

    def _mini_batch(self, chosen: Tensor, mixture: Tensor) -> None:
        config = self.config
        x, target = self.images.batch(chosen, mixture)
        with self._dropout(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            logits, features = self.model(x)
        loss = LOSSES[config.loss](logits, target, config.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        (loss + penalty(config, self.model.classifier, features)).backward()
        self.optimizer.step()
        self.loss_sum += loss.detach() * len(chosen)

    def _own_generator(self):
        """A context in which torch's global generator may be used; afterwards it is as it was."""
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    def _generator_state(self) -> Tensor:
        on_cuda = self.device.type == "cuda"
        return torch.cuda.get_rng_state(self.device) if on_cuda else torch.get_rng_state()

    @contextmanager
    def _dropout(self):
        """A context for a forward pass, in which dropout draws on where this run's last pass left off."""
        if self.noise is None:
            yield
            return
        with self._own_generator():
            if self.device.type == "cuda":
                torch.cuda.set_rng_state(self.noise, self.device)
            else:
                torch.set_rng_state(self.noise)
            yield
            self.noise = self._generator_state()

    def _record(self, rate: float, loss: float) -> None:
        """A row of the history, and after the last epoch the final figures, from the same outputs."""
        classifier = self.model.classifier
        row = {"epoch": float(self.epoch), "learning_rate": rate, "train_loss": loss} | measure.biases(classifier.bias)
        row["bias_pace"] = measure.bias_pace(self.optimizer, classifier.bias)
        test = self._outputs("test")
        row |= measure.every_row(test)
        if self.epoch in self.full:
            train = self._outputs("train")
            row |= measure.row(classifier, train)
            if self.epoch == self.config.epochs:
                self.outputs = train, test
                self.final, self.scores = measure.final(classifier, train, test)
                if self.config.imbalance_factor:
                    self.final |= measure.by_shots(train, test)
        else:
            row |= dict.fromkeys(measure.MEASURED, math.nan)
        if self.kept:
            self.kept.look(self.model, self.epoch, self.autocast)
        for name, value in row.items():
            self.history[name].append(value)

    def _outputs(self, split: str) -> measure.Outputs:
        found = measure.outputs(self.model, self.images, split, self.autocast)
        if not found.finite():
            self._fail("the logits were no longer finite")
        return found

    def state(self) -> dict:
        """Everything that decides the steps to come, as tensors and plain data."""
        if self.stream:
            self.stream.synchronize()  # whoever copies it to the host does so on another stream, which does not wait
        return {
            "engine": engine_version(),
            "device": self.device.type,
            "autocast": self.autocast,
            "epoch": self.epoch,
            "batch": self.batch,
            "seconds": self.seconds,
            "resumed": self.resumed,
            "history": dict(self.history),
            "loss_sum": self.loss_sum,
            "images": self.images.state(),
            "noise": self.noise,
            "kept": self.kept and self.kept.found,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def weights(self) -> dict:
        """What measures the network again: its weights and batch statistics, and whose they are."""
        return {
            "engine": engine_version(),
            "config": self.config.to_dict(),
            "autocast": self.autocast,
            "model": {name: value.cpu() for name, value in self.model.state_dict().items()},
        }

    def resume(self, folder) -> None:
        """Go on from the newest whole checkpoint in `folder`, if there is one and the same engine wrote it."""
        state = checkpoint.latest(folder)
        if state is None:
            return
        ours = (engine_version(), self.autocast)
        if not isinstance(state, dict) or (state.get("engine"), state.get("autocast")) != ours:
            warnings.warn(f"{folder} was written by another version of the engine; the run starts anew.", stacklevel=2)
            return
        if state.get("device") != self.device.type:  # its random numbers are of another kind
            warnings.warn(f"{folder} was written on another kind of device; the run starts anew.", stacklevel=2)
            return
        for name in ("epoch", "batch", "seconds"):
            setattr(self, name, state[name])
        self.resumed = state["resumed"] + 1
        self.history = defaultdict(list, state["history"])
        self.loss_sum.copy_(state["loss_sum"])
        self.images.restore(state["images"])
        if self.kept:
            self.kept.found = state["kept"]
        self.noise = None if state["noise"] is None else state["noise"].cpu()  # a generator's state lies on the host
        self.model.load_state_dict(state["model"])
        # The rate, and how a step is computed, are this training's own: fused or not, captured or not.
        ours = {"param_groups": self.optimizer.state_dict()["param_groups"]}
        self.optimizer.load_state_dict(state["optimizer"] | ours)
        self._set_rate()
        self.model.train()
        if gpu.on_gpu(self.device):
            torch.cuda.synchronize(self.device)
