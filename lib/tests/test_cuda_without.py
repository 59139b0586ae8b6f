"""The way of a GPU on a machine without one: every tensor's device, and what happens where a feature fails.

FakeTensorMode gives tensors that say they are on CUDA, hold no values and refuse a partner on another device. The
autograd engine wants a real CUDA context, by way of torch.func.grad too, so `backward` stays out: it is replaced
there. The metrics look at values: they get tensors that hold values on the CPU and say they are on CUDA.
"""

import contextlib
import functools
import json
import types
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from bcebook.runs.config import RunConfig
from bcebook.runs.specs import DATASETS
from bcebook.training import datasets as data
from bcebook.training import devices, gpu, loop, measure, models

CUDA = torch.device("cuda", 0)


def settings(**changes) -> RunConfig:
    base = dict(dataset="cifar10", model="resnet8", loss="bce", optimizer="sgd", learning_rate=0.1, epochs=2,
                batch_size=8, lambda_w=5e-4, lambda_h=5e-4, lambda_b=5e-4)
    return RunConfig(**(base | changes))


def _to(module: nn.Module, device, memory_format) -> nn.Module:
    """nn.Module.to, which cannot swap fake tensors."""
    for each in module.modules():
        for name, value in each._parameters.items():
            if value is not None:
                moved = value.detach().to(device)
                moved = moved.to(memory_format=memory_format) if moved.ndim == 4 else moved
                each._parameters[name] = nn.Parameter(moved)
        each._buffers.update({name: value.to(device) for name, value in each._buffers.items() if value is not None})
    return module


class Fused(TorchDispatchMode):
    """The fused optimizers' own kernels, which know no fake tensors: they want everything on the GPU."""

    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        if not str(func).startswith("aten._fused_"):
            return func(*args, **(kwargs or {}))
        devices = {each.device for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)}
        if devices != {CUDA} or not isinstance(kwargs["lr"], torch.Tensor):
            raise RuntimeError(f"{func} got tensors on {devices} and the rate {kwargs['lr']}")


class Stream:
    """A CUDA stream's stand-in."""

    def __init__(self, device):
        self.synchronize = lambda: None


@pytest.fixture
def fake(monkeypatch):
    """fake(config): a Training whose tensors are fake ones on CUDA, within FakeTensorMode."""
    generators, real = [], torch.Generator

    def generator(device):
        generators.append(torch.device(device))
        return real()

    for owner, name, stand_in in (
            (gpu, "_TOLD", set()), (torch.cuda, "synchronize", lambda *args: None), (torch.cuda, "Stream", Stream),
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda **options: True), (torch, "Generator", generator),
            (torch.random, "fork_rng", lambda devices: contextlib.nullcontext()), (models.Network, "to", _to)):
        monkeypatch.setattr(owner, name, stand_in)
    with FakeTensorMode(), Fused():
        def make(config: RunConfig) -> loop.Training:
            training = loop.Training(config, data.noise(config.dataset, 3, 3), CUDA)
            assert generators.pop().type == "cuda" and training.graphs

            def backward(loss):
                assert loss.device == CUDA and loss.shape == ()
                for parameter in training.model.parameters():
                    parameter.grad = torch.zeros_like(parameter)

            monkeypatch.setattr(torch.Tensor, "backward", backward)
            return training

        yield make


def step(training: loop.Training) -> None:
    """Two mini-batches as `Training` makes them, the second with what the optimizer keeps; what a GPU cannot capture
    (a look at a value) raises here too. Then all that decides the next step lies on the GPU."""
    training._begin_epoch()
    for index in range(2):
        training._mini_batch(*training.images.chosen(index, training.config.batch_size))
    state = training.state()
    del state["images"]["generator"]  # which the host keeps
    devices = {value.device for value in tree_flatten(state)[0] if isinstance(value, torch.Tensor)}
    assert devices == {CUDA}


@pytest.mark.parametrize("change", [
    *({"dataset": name, "model": "mlp" if name == "digits" else "resnet8", "augmentation": "da1+da2"}
      for name in DATASETS),
    {"augmentation": "da1"}, {"dataset": "digits", "model": "mlp"}, {"model": "resnet18", "precision": "float32"},
    *({"model": model, "precision": "bfloat16"} for model in ("resnet50", "densenet121"))], ids=str)
def test_a_step_on_each_kind_of_images_and_of_each_network_of_the_paper_stays_on_the_gpu(fake, change):
    step(fake(settings(**change)))
    step(fake(settings(optimizer="adamw", loss="ce", label_smoothing=0.1, **change)))


def test_the_outputs_stay_on_the_gpu(fake):
    training = fake(settings())
    for split in ("train", "test"):
        out = measure.outputs(training.model, training.images, split, True)
        assert {value.device for value in vars(out).values()} == {CUDA} and out.features.dtype == torch.float32


@pytest.mark.parametrize("where", ["images.mean", "images.std", "images.y_train", "images.x_train",
                                   "model.classifier.bias", "model.classifier.weight", "loss_sum"])
def test_one_tensor_on_the_cpu_is_found(fake, where):
    training = fake(settings(augmentation="da1+da2"))
    *path, name = where.split(".")
    owner = functools.reduce(getattr, path, training)
    value = getattr(owner, name)
    setattr(owner, name, nn.Parameter(value.detach().cpu()) if isinstance(value, nn.Parameter) else value.cpu())
    with pytest.raises((RuntimeError, AssertionError)):
        step(training)


class Claims(torch.Tensor):
    """A tensor that says it is on CUDA and holds its values on the CPU."""

    @staticmethod
    def __new__(cls, value: torch.Tensor):
        # For torch itself on "meta", which needs no driver; `device` asks below.
        made = torch.Tensor._make_wrapper_subclass(cls, value.shape, strides=value.stride(), dtype=value.dtype,
                                                   device="meta", dispatch_device=True)
        made.value = value
        return made

    @classmethod
    def __torch_dispatch__(cls, func, kinds, args=(), kwargs=None):
        return claimed(func, args, kwargs or {})

    # What waits for the GPU and copies a value to the host.
    tolist, item, __float__, __int__, __bool__, __index__ = (
        (lambda self, name=name: getattr(self.value, name)())
        for name in ("tolist", "item", "__float__", "__int__", "__bool__", "__index__"))


# A CUDA tensor takes an index from the CPU, by way of a hidden copy.
MAY_MIX = (torch.ops.aten.index.Tensor, torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


def claimed(func, args, kwargs):
    """The operation on the values; refused where a GPU would refuse it: a tensor of each device, neither a number."""
    if func is torch.ops.prim.device.default:
        return CUDA if isinstance(args[0], Claims) else args[0].device
    tensors = [each for each in tree_flatten((args, kwargs))[0] if isinstance(each, torch.Tensor)]
    ours = [each for each in tensors if isinstance(each, Claims)]
    if ours and func not in MAY_MIX and any(each.ndim for each in tensors if not isinstance(each, Claims)):
        raise RuntimeError(f"{func} got tensors of the CPU and of CUDA")
    device = kwargs.get("device")
    there = torch.device(device).type == "cuda" if device is not None else bool(ours)
    args, kwargs = tree_map(lambda each: each.value if isinstance(each, Claims) else each, (args, kwargs))
    with _disable_current_modes():
        out = func(*args, **(kwargs | {"device": "cpu"} if device is not None else kwargs))
    known = {id(each.value): each for each in ours}  # what was changed in place stays itself
    wrap = lambda each: known.get(id(each)) if id(each) in known else Claims(each)  # noqa: E731
    return tree_map(lambda each: wrap(each) if there and isinstance(each, torch.Tensor) else each, out)


class Claiming(TorchDispatchMode):
    def __torch_dispatch__(self, func, kinds, args=(), kwargs=None):
        return claimed(func, args, kwargs or {})


def _measured(place) -> str:
    """Everything that is measured on a trained network, of fixed outputs that `place` puts somewhere."""
    random = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    labels = torch.arange(120) % 10
    head = types.SimpleNamespace(weight=place(draw(10, 16)), bias=place(draw(10)))
    train, test = (measure.Outputs(place(3 * draw(120, 10)), place(draw(120, 16)), place(labels)) for _ in range(2))
    assert train.finite()
    found = measure.biases(head.bias) | measure.every_row(test) | measure.row(head, train)
    return json.dumps([found, measure.final(head, train, test)])


def test_the_measures_stay_on_the_gpu_and_are_the_same():
    expected = _measured(lambda value: value)
    with FakeTensorMode(), Claiming():  # with the first, torch does not look for a driver
        assert _measured(Claims) == expected
        with pytest.raises(RuntimeError, match="of the CPU and of CUDA"):
            _measured(lambda value: value if value.shape == (10, 16) else Claims(value))  # the weight alone


class Graph:
    """A CUDA graph's stand-in: the capture runs nothing, the replay does what was captured."""

    def register_generator_state(self, generator):
        assert isinstance(generator, torch.Generator)

    def replay(self, real=loop.Training._mini_batch):
        real(*self.captured)


@pytest.fixture
def pretend(monkeypatch):
    """CPU tensors on the way of a GPU, with stand-ins for what only a GPU has. Returns capture, to be replaced."""
    @contextlib.contextmanager
    def capture(graph, stream):
        graph.stream = stream
        with monkeypatch.context() as patch:
            patch.setattr(loop.Training, "_mini_batch", lambda *given: setattr(graph, "captured", given))
            yield

    monkeypatch.setattr(gpu, "on_gpu", lambda device: True)
    monkeypatch.setattr(gpu, "_TOLD", set())
    for name, stand_in in {"synchronize": lambda *args: None, "Stream": Stream, "CUDAGraph": Graph,
                           "stream": contextlib.nullcontext, "graph": capture}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)


def _trained(config: RunConfig) -> tuple[str, loop.Training]:
    training = loop.Training(config, data.load("digits"), torch.device("cpu"))
    while not training.done:
        training.step()
    return repr((training.history, training.final, training.scores)), training


@pytest.mark.parametrize("change", [{}, {"augmentation": "da1+da2"}], ids=str)
def test_a_captured_step_is_the_step(small, pretend, monkeypatch, change):
    config = small(**change)
    captured, training = _trained(config)
    assert training.graph is not None and training.stream is not None
    monkeypatch.setattr(gpu, "EAGER_STEPS", 10**9)
    eager, training = _trained(config)
    assert training.graph is None and captured == eager


def test_a_step_is_captured_on_the_runs_own_stream_and_no_two_runs_have_one(small, pretend):
    """Else they share what cuBLAS works in, and replayed at the same time they spoil each other's logits."""
    trainings = [loop.Training(small(seed=seed), data.load("digits"), torch.device("cpu")) for seed in range(3)]
    for training in trainings * (gpu.EAGER_STEPS + 1):
        training.step()
    assert all(training.graph.stream is training.stream for training in trainings)
    assert len({training.stream for training in trainings}) == 3


fails = mock.Mock(side_effect=RuntimeError("CUDA error: not here\nand a second line"))


@contextlib.contextmanager
def _draws_and_fails(graph, stream):
    """A capture that moves the generator on and then breaks off, before anything has run."""
    with pytest.MonkeyPatch.context() as patch:
        draw = lambda self, *given: torch.rand(9, generator=self.images.generator)  # noqa: E731
        patch.setattr(loop.Training, "_mini_batch", draw)
        yield
    fails()


@pytest.mark.parametrize(("owner", "name", "stand_in", "feature"), [
    (torch.cuda, "Stream", fails, "a CUDA stream for each run"), (torch.cuda, "CUDAGraph", fails, "CUDA graphs"),
    (torch.cuda, "graph", fails, "CUDA graphs"), (torch.cuda, "graph", _draws_and_fails, "CUDA graphs"),
    (torch, "_fused_sgd_", fails, "the fused optimizer with its rate as a tensor")])
def test_what_fails_is_named_once_and_the_run_goes_on(small, pretend, monkeypatch, owner, name, stand_in, feature):
    config = small(augmentation="da1+da2")
    expected, whole = _trained(config)
    monkeypatch.setattr(owner, name, stand_in)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [_trained(config), _trained(config)]
    assert [str(each.message).split(" cannot be used here (CUDA error: not here and a second line); ")[0]
            for each in said] == [feature]
    for result, training in found:
        assert (training.stream is None) == (name == "Stream")
        assert training.graph is None and not training.graphs  # what failed is not tried at every step
        if name == "_fused_sgd_":  # the rate is a double then, and the sums are in another order
            assert np.allclose(training.history["train_loss"][1:], whole.history["train_loss"][1:], rtol=1e-3)
        else:
            assert result == expected


def test_a_gpu_that_this_pytorch_has_no_kernels_for_is_one_sentence_and_auto_takes_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "zeros", fails)  # "no kernel image is available for execution on the device"
    devices._cuda_trouble.cache_clear()
    try:
        with pytest.warns(UserWarning, match="this PyTorch cannot compute on the GPU here .*; the CPU is used"):
            assert devices.resolve("auto") == torch.device("cpu") == devices.resolve("cpu")
        says = "'cuda:1' was asked for, but this PyTorch cannot compute on the GPU[^\\n]*$"
        with pytest.raises(ValueError, match=says):
            devices.resolve("cuda:1")
    finally:
        devices._cuda_trouble.cache_clear()


@pytest.mark.parametrize(("owner", "name"), [(torch.cuda, "CUDAGraph"), (torch, "_fused_sgd_")])
def test_too_little_memory_is_no_missing_feature(small, pretend, monkeypatch, owner, name):
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    monkeypatch.setattr(owner, name, mock.Mock(side_effect=error))
    with pytest.raises(torch.OutOfMemoryError):
        _trained(small())


def test_a_checkpoint_waits_for_its_stream_and_is_not_for_another_kind_of_device(small, pretend, tmp_path, monkeypatch):
    training, waited = loop.Training(small(), data.load("digits"), torch.device("cpu")), []
    training.step()
    monkeypatch.setattr(training.stream, "synchronize", lambda: waited.append(True), raising=False)
    state = training.state()
    assert waited == [True]
    monkeypatch.setattr(loop.checkpoint, "latest", lambda folder: state | {"device": "cuda"})
    other = loop.Training(small(), data.load("digits"), torch.device("cpu"))
    with pytest.warns(UserWarning, match="on another kind of device; the run starts anew"):
        other.resume(tmp_path)
    monkeypatch.setattr(loop.checkpoint, "latest", lambda folder: state)
    other.resume(tmp_path)
    assert other.batch == 1 and isinstance(other.optimizer.param_groups[0]["lr"], torch.Tensor)
