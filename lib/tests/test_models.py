import pytest
import torch

from bcebook.training import models

IMAGES = {"convnet": (4, 1, 8, 8), "resnet18": (2, 3, 32, 32), "resnet50": (2, 3, 32, 32), "densenet121": (2, 3, 32, 32)}


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


def test_features_of_the_convnet_are_free_in_sign():
    features = models.build("convnet", 10, 1)(torch.randn(64, 1, 8, 8))[1]
    assert 0.2 < float((features < 0).float().mean()) < 0.8


def test_bad_names_and_sizes():
    with pytest.raises(ValueError, match="no model 'vgg'; choose one of convnet"):
        models.build("vgg", 10, 3)
    with pytest.raises(ValueError, match="at least 2"):
        models.build("convnet", 1, 1)
