import itertools

import pytest
import torch

from bcebook.training import models

IMAGES = {"convnet": (4, 1, 8, 8), "resnet9": (2, 3, 32, 32), "resnet9-signed": (2, 3, 32, 32), "resnet18": (2, 3, 32, 32),
          "resnet50": (2, 3, 32, 32), "densenet121": (2, 3, 32, 32)}


@pytest.mark.parametrize("name", IMAGES)
def test_logits_are_scores_minus_bias(name):
    torch.manual_seed(0)
    model = models.build(name, 10, IMAGES[name][1], bias_init_mean=3.0).eval()
    logits, features = model(torch.randn(IMAGES[name]))
    weight, bias = model.classifier.weight.detach(), model.classifier.bias.detach()
    assert logits.shape == (IMAGES[name][0], 10) and weight.shape == (10, features.shape[1]) and bias.shape == (10,)
    assert torch.allclose(logits, features @ weight.T - bias, atol=1e-5)
    assert float((bias - 3.0).abs().max()) <= features.shape[1] ** -0.5 and float(bias.std()) > 0


def test_the_networks_are_those_of_the_paper():
    """Known sizes: the ResNets for 32x32 images, and the slim DenseNet's widths worked out by hand."""
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(models.build("resnet18", 10, 3)) == 11_173_962
    assert count(models.build("resnet50", 10, 3)) == 23_520_842
    slim = models.build("densenet121", 10, 3)
    # 32 + 6*16 = 128 -> 64; + 12*16 = 256 -> 128; + 24*16 = 512 -> 256; + 16*16 = 512
    assert slim.classifier.weight.shape == (10, 512)
    sizes = []
    for layer in (slim.backbone.features.conv0, slim.backbone.features.denseblock1, slim.backbone.features.denseblock4):
        layer.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    slim.eval()(torch.randn(1, 3, 32, 32))
    assert sizes == [(32, 16, 16), (128, 16, 16), (512, 2, 2)]  # stride-2 stem, no max-pool
    net = models.build("resnet18", 10, 3)
    net.backbone.layer1.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    net.eval()(torch.randn(1, 3, 32, 32))
    assert sizes[-1] == (64, 32, 32)  # stride-1 stem, no max-pool


def test_the_seed_gives_both_losses_the_same_start():
    torch.manual_seed(5)
    one = models.build("convnet", 10, 1, 0.0)
    torch.manual_seed(5)
    two = models.build("convnet", 10, 1, 8.0)
    for (name, p), (_, q) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        assert torch.allclose(p + (8.0 if name == "classifier.bias" else 0.0), q, atol=1e-6)


def test_the_fixed_first_layer_is_orthonormal_and_never_trained():
    model = models.build("resnet9", 10, 3)
    stem = model.backbone[0]
    rows = stem.filters.flatten(1)
    assert torch.allclose(rows @ rows.T, torch.eye(16), atol=1e-6)
    assert not list(stem.parameters())
    before = stem.filters.clone()
    logits, _ = model(torch.randn(8, 3, 32, 32))
    logits.square().sum().backward()
    torch.optim.SGD(model.parameters(), 0.1, weight_decay=5e-4).step()
    assert torch.equal(stem.filters, before)
    images = torch.randn(8, 3, 32, 32)
    out = stem(images)
    assert out.shape == (8, 32, 32, 32) and float(out.min()) == 0
    # both signs: what one channel drops the other has
    filtered = stem.normal(torch.nn.functional.conv2d(images, stem.filters, padding=1))
    assert torch.allclose(out[:, :16] - out[:, 16:], filtered, atol=1e-5)


def test_the_fixed_filters_are_those_with_the_most_variance_on_photographs():
    """Of all 27, on scikit-learn's two photographs taken at CIFAR10's scale; which are nearly uncorrelated there."""
    from sklearn.datasets import load_sample_images

    F, stds = models.F, torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
    chosen, patches = models._Stem.FILTERS, []
    for photo in load_sample_images().images:
        image = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
        patches.append(F.interpolate(image, scale_factor=0.1, mode="area") / stds)
    models._Stem.FILTERS = tuple(itertools.product(range(3), range(3), range(3)))
    try:
        filters = models._Stem().filters
    finally:
        models._Stem.FILTERS = chosen
    out = torch.cat([F.conv2d(x, filters).flatten(2) for x in patches], dim=2)[0]
    variance = dict(zip(itertools.product(range(3), range(3), range(3)), out.var(dim=1).tolist(), strict=True))
    most = sorted(variance, key=variance.get, reverse=True)[:16]
    assert len(set(most) & set(chosen)) >= 14, sorted(set(most) ^ set(chosen))
    off = torch.corrcoef(out) - torch.eye(27)
    assert float(off.square().mean().sqrt()) < 0.2


def test_signed_features_are_the_same_network_without_its_last_relu():
    torch.manual_seed(1)
    one = models.build("resnet9", 10, 3)
    torch.manual_seed(1)
    two = models.build("resnet9-signed", 10, 3)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in two.state_dict().items()}
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    images = torch.randn(16, 3, 32, 32)
    last = {}
    for model, name in ((one, "relu"), (two, "signed")):
        model.backbone[-3].register_forward_hook(lambda _, __, out, name=name: last.update({name: out.detach()}))
        assert model(images)[1].shape == (16, 256)
    assert torch.equal(last["signed"].relu(), last["relu"]) and float(last["signed"].min()) < 0


def test_bad_names_and_sizes():
    with pytest.raises(ValueError, match="no model 'vgg'; choose one of convnet"):
        models.build("vgg", 10, 3)
    with pytest.raises(ValueError, match="at least 2"):
        models.build("convnet", 1, 1)
    with pytest.raises(ValueError, match="three channels"):
        models.build("resnet9", 10, 1)
