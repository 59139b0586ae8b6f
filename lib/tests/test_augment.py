import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from timm.data import mixup as timm_mixup
from torchvision.transforms import v2

from bcebook.science import losses
from bcebook.training import datasets as data
from bcebook.training.images import Images

CPU = torch.device("cpu")


def _epoch(images, batch_size):
    """Every batch of one epoch."""
    images.shuffle(batch_size)
    return [images.batch(*images.chosen(i, batch_size)) for i in range(images.batch_count(batch_size))]


def _cifar_like(count=64):
    """Random images: the geometry of the transforms does not depend on what is on them. No pixel is 0, so that padding
    can be told apart."""
    noise = data.noise("cifar10", -(-count // 10), 1)
    return dataclasses.replace(noise, x_train=noise.x_train[:count].clip(1), y_train=noise.y_train[:count])


@pytest.mark.parametrize(("dataset", "pad", "flips"), [("cifar10", 4, (False, True)), ("digits", 1, (False,))])
def test_da1_gives_crops_and_flips_of_the_image_and_uses_all_of_them_but_never_flips_digits(dataset, pad, flips):
    images = Images(_cifar_like() if dataset == "cifar10" else data.load(dataset).subset(200), "da1", CPU, seed=0)
    side, offsets, seen = images.spec.side, range(2 * pad + 1), set()
    for _ in range(6):
        for image, crop in zip(images.x_train, images._da1(images.x_train), strict=True):
            padded = F.pad(image, (pad,) * 4)
            found = [(r, c, flip) for flip in flips for r in offsets for c in offsets
                     if torch.equal(crop, (padded.flip(2) if flip else padded)[:, r : r + side, c : c + side])]
            assert len(found) == 1 or dataset == "digits" and found  # some digits have empty margins
            seen.update(found)
    assert len({(r, c) for r, c, _ in seen}) > 0.9 * len(offsets) ** 2 and {flip for *_, flip in seen} == set(flips)


def test_cifar100_rotates_by_at_most_15_degrees():
    """Against torchvision's own rotation, at the angle that fits best."""
    smooth = (np.indices((32, 32)).sum(0) * 4).astype(np.uint8)[None, :, :, None].repeat(8, 0).repeat(3, 3)
    images = Images(dataclasses.replace(_cifar_like(8), name="cifar100", x_train=smooth), "da1", CPU, seed=3)
    centre = slice(11, 21)  # away from padding
    for crop in images._da1(images.x_train):
        errors = []
        for angle in np.arange(-20, 21):
            turned = [v2.functional.rotate(F.pad(base, (4,) * 4)[:, r : r + 32, c : c + 32].float(), float(angle))
                      for base in (images.x_train[0], images.x_train[0].flip(2)) for r in (0, 4, 8) for c in (0, 4, 8)]
            errors.append(min(float(((t - crop)[:, centre, centre] - (t - crop)[:, centre, centre].mean()).abs().mean()) for t in turned))
        assert abs(np.arange(-20, 21)[int(np.argmin(errors))]) <= 16 and min(errors) < 3


def test_mnist_is_what_torchvision_makes_of_it(real):
    part = real("mnist").subset(64)
    images = Images(part, "none", CPU, seed=0)
    from PIL import Image

    transform = v2.Compose([v2.Grayscale(3), v2.Resize((32, 32)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                            v2.Normalize((0.1307,) * 3, (0.3081,) * 3)])
    theirs = torch.stack([transform(Image.fromarray(x[..., 0])) for x in part.x_train])
    ours = images.normalise(images.x_train)
    assert ours.shape == (64, 3, 32, 32)
    assert float((ours - theirs).abs().max()) <= 1.01 / 255 / 0.3081  # one grey level: PIL rounds in fixed point


def test_mixup_and_cutmix_mix_images_and_targets_by_the_same_share():
    images = Images(_cifar_like(16), "da1+da2", CPU, seed=1)
    images.num_classes = 16
    labels = torch.arange(16)  # each image its own class: the soft target then names the partner
    x = images.x_train.float()
    kinds = []
    for _ in range(60):
        mixed, target = images._da2(x, labels, torch.from_numpy(images._mixture())[None])
        assert torch.allclose(target.sum(1), torch.ones(16), atol=1e-6)
        for i in range(16):
            others = [int(j) for j in target[i].nonzero() if j != i]
            if not others:
                continue  # mixed with itself
            (j,), share = others, float(target[i, i])
            from_self, from_other = (mixed[i] == x[i]).all(0), (mixed[i] == x[j]).all(0)
            if (from_self | from_other).all():
                kinds.append("cutmix")
                assert abs(float(from_self.float().mean()) - share) < 1e-5
                ys, xs = from_other.nonzero().T
                assert len(ys) == (ys.max() - ys.min() + 1) * (xs.max() - xs.min() + 1)  # one rectangle
            else:
                kinds.append("mixup")
                assert torch.allclose(mixed[i], share * x[i] + (1 - share) * x[j], atol=1e-2)
    assert 0.3 < kinds.count("mixup") / len(kinds) < 0.7


def test_soft_targets_with_smoothing_are_timms():
    """timm's Mixup is what the authors' recipe names; its partner is the batch in reverse order."""
    y, lam, logits = torch.tensor([3, 0, 7, 7, 2, 9]), 0.3, torch.randn(6, 10)
    onehot = torch.eye(10)[y]
    for smoothing in (0.0, 0.1):
        theirs = timm_mixup.mixup_target(y, 10, lam, smoothing)
        ours = losses._prepare(logits, torch.lerp(onehot.flip(0), onehot, lam), smoothing)[1]
        assert torch.allclose(ours, theirs, atol=1e-6) and torch.allclose(ours.sum(dim=1), torch.ones(6))
    expected = F.binary_cross_entropy_with_logits(logits, theirs, reduction="none").sum(dim=1).mean()
    assert losses.bce_loss(logits, torch.lerp(onehot.flip(0), onehot, lam), 0.1).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("augmentation", ["da1+mixup", "da1+cutmix"])
def test_an_images_own_share_is_distributed_as_timms_and_torchvisions(augmentation):
    """Mixup's as timm's; CutMix's as torchvision's, whose boxes are the original's: those of timm's latest version are a
    pixel wider where their side is odd."""
    images, count = Images(data.noise("cifar10", 1, 1), augmentation, torch.device("cpu"), 0), 10_000
    np.random.seed(0)  # timm draws from NumPy's global generator, torchvision from torch's
    if augmentation == "da1+mixup":
        mixer = timm_mixup.Mixup(mixup_alpha=0.8, cutmix_alpha=0.0, label_smoothing=0.1, num_classes=2)
        theirs = np.array([mixer._params_per_batch()[0] for _ in range(count)])
    else:
        mixer = v2.CutMix(alpha=1.0, num_classes=2)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            theirs = np.array([mixer.make_params([torch.zeros(2, 3, 32, 32)])["lam_adjusted"] for _ in range(count)])
    area = lambda row: row[0] - (row[2] - row[1]) * (row[4] - row[3]) / 32**2  # noqa: E731 - of a mixture, its own share
    ours = np.array([area(images._mixture()) for _ in range(count)])
    assert scipy.stats.ks_2samp(ours, theirs).pvalue > 0.001 and abs(ours.mean() - theirs.mean()) < 0.015


@pytest.mark.parametrize("augmentation", ["none", "da1", "da1+da2"])
def test_an_epoch_shows_every_image_once_and_depends_on_the_seed_alone(augmentation):
    digits = data.load("digits").subset(train_size=129)
    one, two, other = (_epoch(Images(digits, augmentation, CPU, seed), 64) for seed in (0, 0, 1))
    assert [len(x) for x, _ in one] == [64, 64]  # the 129th image would be a batch of one
    assert all(torch.equal(a, b) and torch.equal(s, t) for (a, s), (b, t) in zip(one, two, strict=True))
    assert not torch.equal(one[0][0], other[0][0])
    if augmentation == "none":
        shown = torch.cat([x for x, _ in one]).flatten(1)
        assert len({row.numpy().tobytes() for row in shown}) >= 126  # a few digits are drawn twice


@pytest.mark.parametrize("augmentation", ["none", "da1", "da1+da2"])
def test_an_epoch_goes_on_from_any_batch(augmentation):
    digits = data.load("digits").subset(train_size=300)
    images, other = (Images(digits, augmentation, CPU, seed) for seed in (0, 5))
    images.shuffle(64)
    images.batch(*images.chosen(0, 64))
    other.restore(images.state())
    for index in (1, 2, 3, 4):
        (x, target), (same, same_target) = (each.batch(*each.chosen(index, 64)) for each in (images, other))
        assert torch.equal(x, same) and torch.equal(target, same_target)
    assert all(torch.equal(x, same) for (x, _), (same, _) in zip(_epoch(images, 64), _epoch(other, 64), strict=True))
