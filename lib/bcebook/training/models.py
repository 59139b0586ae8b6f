"""Backbones, and networks of a backbone and a head: `model(images) -> (logits, features)`."""

import math
import re
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from bcebook.training import heads, pretrained
from bcebook.training.efficientnet import WIDTH, EfficientNetLite0


class Network(nn.Module):
    """A backbone (B, C, H, W) -> features (B, d), and the classifier on top. frozen: only the classifier is trained;
    the backbone has no gradient, and in training too its batch statistics stay and it drops nothing."""

    def __init__(self, backbone: nn.Module, classifier: nn.Module, frozen: bool = False):
        super().__init__()
        self.backbone, self.classifier, self.frozen = backbone, classifier, frozen
        if frozen:
            backbone.requires_grad_(False)

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(images)  # (B, d)
        return self.classifier(features), features


def _convnet(in_channels: int, signed: bool = True) -> tuple[nn.Module, int]:
    """Ours, for the 8x8 digits: three convolutions and a linear embedding of 32 dimensions.

    No ReLU after the embedding: the theory's features are free in sign, and a ReLU would keep them from the simplex
    ETF. `signed` false: with it, the same otherwise.
    """
    layers, width = [], in_channels
    for out, stride in ((16, 1), (32, 2), (32, 2)):  # 8x8 -> 8x8 -> 4x4 -> 2x2
        layers += [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
        width = out
    end = () if signed else (nn.ReLU(),)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4, 32), *end), 32


def _mlp(in_channels: int, signed: bool = True) -> tuple[nn.Module, int]:
    """Ours, for the 8x8 digits: two hidden layers of 128 and a linear embedding of 32 dimensions. A step takes a third
    of `_convnet`'s on a recent core and a tenth on an older one. `signed`: as there."""
    layers, width = [nn.Flatten()], 64 * in_channels
    for out in (128, 128):
        layers += [nn.Linear(width, out, bias=False), nn.BatchNorm1d(out), nn.ReLU(inplace=True)]
        width = out
    end = () if signed else (nn.ReLU(),)
    return nn.Sequential(*layers, nn.Linear(width, 32), *end), 32


class _Block(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut. `signed`: without the last ReLU."""

    def __init__(self, width: int, out: int, stride: int, signed: bool = False):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        self.last = nn.Identity() if signed else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.main(x) + self.shortcut(x))


def _resnet8(in_channels: int) -> tuple[nn.Module, int]:
    """Ours, for 32x32 images on a CPU: a stride-2 stem and three residual blocks at 8x8, 4x4 and 4x4, where a CPU's
    time buys the most parameters. No ReLU at the end, as in `_convnet`: the features are free in sign."""
    net = nn.Sequential(
        nn.Conv2d(in_channels, 32, 3, 2, 1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        _Block(32, 64, 2),
        _Block(64, 128, 2),
        _Block(128, 128, 1, signed=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    _fan_out(net)
    return net, 128


class _Stem(nn.Module):
    """A fixed first layer: 16 of the 27 orthonormal 3x3 filters that are a product of two cosines (DCT-II) and a
    brightness, red-blue or green-purple contrast, those with the most variance on CIFAR10; each normalised, in both
    signs, through a ReLU. (B, 3, H, W) -> (B, 32, H, W).

    The principal components of small colour patches are nearly these, so that normalised they come out nearly white:
    what the first layer of a network takes epochs to learn. Nothing here has a gradient, which at full resolution
    saves a tenth of a step. Source: ours, after the whitening layer of the CIFAR speed runs (Page, 2019).
    """

    # (contrast, vertical frequency, horizontal frequency), from the most variance (33) to the least (0.02).
    FILTERS = (
        (0, 0, 0),
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (2, 0, 0),
        (0, 1, 1),
        (0, 2, 0),
        (0, 0, 2),
        (0, 1, 2),
        (0, 2, 1),
        (1, 1, 0),
        (1, 0, 1),
        (0, 2, 2),
        (2, 1, 0),
        (2, 0, 1),
        (1, 1, 1),
    )

    def __init__(self):
        super().__init__()
        place = torch.arange(3) + 0.5
        waves = F.normalize(torch.stack([torch.cos(math.pi * k * place / 3) for k in range(3)]))  # (3, 3)
        contrasts = F.normalize(torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]]))  # of red, green, blue
        filters = torch.stack(
            [torch.einsum("c,i,j->cij", contrasts[c], waves[i], waves[j]) for c, i, j in self.FILTERS]
        )
        self.register_buffer("filters", filters, persistent=False)
        self.normal = nn.BatchNorm2d(len(self.FILTERS), affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.normal(F.conv2d(x, self.filters, padding=1))
        return torch.cat([x, -x], dim=1).relu_()


def _layer(width: int, out: int, *end: nn.Module, pool: bool = False) -> nn.Sequential:
    """A 3x3 convolution and batch normalisation; pool: the largest of 2x2 before it is normalised, which costs a
    quarter of normalising first."""
    between = (nn.MaxPool2d(2),) if pool else ()
    return nn.Sequential(nn.Conv2d(width, out, 3, 1, 1, bias=False), *between, nn.BatchNorm2d(out), *end)


class _Residual(nn.Module):
    """Two layers of one width around an identity. `signed`: without the last ReLU."""

    def __init__(self, width: int, signed: bool = False):
        super().__init__()
        self.main = nn.Sequential(_layer(width, width, nn.ReLU(inplace=True)), _layer(width, width))
        self.last = nn.Identity() if signed else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.main(x))


def _resnet9(in_channels: int, signed: bool = False) -> tuple[nn.Module, int]:
    """Ours, the paper's kind of network (residual, 3x3 convolutions, pooled ReLU features) for two cores of a CPU:
    chosen by accuracy for its time, on held-out images. `signed`: without the last ReLU, the same otherwise."""
    if in_channels != 3:
        raise ValueError(f"resnet9 takes images of three channels, not {in_channels}.")
    net = nn.Sequential(
        _Stem(),
        _layer(32, 64, nn.ReLU(inplace=True), pool=True),  # 16x16
        _layer(64, 128, nn.ReLU(inplace=True), pool=True),
        _Residual(128),  # 8x8
        _layer(128, 256, nn.ReLU(inplace=True), pool=True),
        _Residual(256, signed),  # 4x4
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    _fan_out(net)
    return net, 256


def _fan_out(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _resnet(block: type, layers: list[int], in_channels: int) -> tuple[nn.Module, int]:
    """torchvision's ResNet with the stem for 32x32 images: 3x3, stride 1, no max-pool. Kaiming fan-out is its
    default."""
    net = ResNet(block, layers)
    net.conv1 = nn.Conv2d(in_channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool, net.fc = nn.Identity(), nn.Identity()
    return net, 512 * block.expansion


def _densenet121(in_channels: int) -> tuple[nn.Module, int]:
    """The authors' slim DenseNet121: growth 16, 32 initial channels, 7x7 stride-2 stem, no max-pool."""
    net = DenseNet(growth_rate=16, block_config=(6, 12, 24, 16), num_init_features=32)
    net.features.conv0 = nn.Conv2d(in_channels, 32, 7, 2, 3, bias=False)
    nn.init.kaiming_normal_(net.features.conv0.weight)
    net.features.pool0 = nn.Identity()
    dim, net.classifier = net.classifier.in_features, nn.Identity()
    return net, dim


def _vit(
    in_channels: int, side: int, patch: int, dim: int, depth: int, heads: int, dim_head: int, mlp: int
) -> tuple[nn.Module, int]:
    """vit-pytorch's ViT: class token, final LayerNorm; dropout 0.2, of the embedding 0.1."""
    from vit_pytorch import ViT  # where it is asked for: only networks of its kind need it

    net = ViT(
        image_size=side,
        patch_size=patch,
        channels=in_channels,
        dim=dim,
        depth=depth,
        heads=heads,
        dim_head=dim_head,
        mlp_dim=mlp,
        dropout=0.2,
        emb_dropout=0.1,
        num_classes=1,
    )
    net.mlp_head = nn.Identity()
    return net, dim


def _swin(in_channels: int) -> tuple[nn.Module, int]:
    """swin-transformer-pytorch's Swin-T for 32x32 images: windows of 4, downscaling 2 2 2 1; the mean over the last
    4x4 patches, then LayerNorm."""
    from swin_transformer_pytorch import SwinTransformer

    net = SwinTransformer(
        hidden_dim=96,
        layers=(2, 2, 6, 2),
        heads=(3, 6, 12, 24),
        channels=in_channels,
        num_classes=1,
        head_dim=32,
        window_size=4,
        downscaling_factors=(2, 2, 2, 1),
    )
    net.mlp_head = net.mlp_head[0]
    return net, 8 * 96


def _efficientnet_lite0(in_channels: int) -> tuple[nn.Module, int]:
    """Pretrained on ImageNet-1k, at 224 pixels a side. Images of 32 are enlarged to 96, a compromise with a step's time
    (128 images on a core of an AMD EPYC: 1.8 s, with 64 pixels 1.3 s)."""
    if in_channels != 3:
        raise ValueError(f"efficientnet-lite0 takes images of three channels, not {in_channels}.")
    net = EfficientNetLite0(side=96)
    net.load_published(pretrained.weights("efficientnet-lite0"))
    return net, WIDTH


def _torchvisions(name: str, in_channels: int) -> tuple[nn.Module, int]:
    """A ResNet or DenseNet of torchvision for images of 224 pixels a side, with its weights from ImageNet-1k."""
    if in_channels != 3:
        raise ValueError(f"{name} takes images of three channels, not {in_channels}.")
    net = torchvision.models.get_model(name.removesuffix("-224"), weights=None)
    last = "fc" if hasattr(net, "fc") else "classifier"
    dim = getattr(net, last).in_features
    setattr(net, last, nn.Identity())
    # The file of a DenseNet is older than the names of its layers: "norm.1" is "norm1" by now.
    named = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.", r"\1", key): value
        for key, value in pretrained.weights(name).items()
    }
    net.load_state_dict({key: value for key, value in named.items() if not key.startswith(f"{last}.")})
    return net, dim


BACKBONES = {  # of each network in runs/specs.py: input channels -> (backbone, width of its features)
    "convnet": _convnet,
    "convnet-relu": partial(_convnet, signed=False),
    "mlp": _mlp,
    "mlp-relu": partial(_mlp, signed=False),
    "resnet8": _resnet8,
    "resnet9": _resnet9,
    "resnet9-signed": lambda in_channels: _resnet9(in_channels, signed=True),
    "resnet18": lambda in_channels: _resnet(BasicBlock, [2, 2, 2, 2], in_channels),
    "resnet50": lambda in_channels: _resnet(Bottleneck, [3, 4, 6, 3], in_channels),
    "densenet121": _densenet121,
    "vit": partial(_vit, side=32, patch=4, dim=512, depth=6, heads=10, dim_head=64, mlp=512),
    "vit-tiny": partial(_vit, side=8, patch=2, dim=64, depth=2, heads=4, dim_head=16, mlp=64),
    "vit-mini": partial(_vit, side=8, patch=4, dim=64, depth=2, heads=4, dim_head=16, mlp=64),
    "swin": _swin,
    "efficientnet-lite0": _efficientnet_lite0,
    **{name: partial(_torchvisions, name) for name in pretrained.TORCHVISIONS},
}


def build(
    name: str,
    num_classes: int,
    in_channels: int,
    bias_init_mean: float = 0.0,
    head: Callable[[int, int], nn.Module] | None = None,
    frozen: bool = False,
) -> Network:
    """A fresh network; draws its weights from torch's global generator, but for a backbone that is pretrained. head:
    width of the features, number of classes -> the classifier; None: a linear one with `bias_init_mean`. frozen: see
    `Network`. Raises ValueError for an unknown name, pretrained.NoWeights."""
    if name not in BACKBONES:
        raise ValueError(f"there is no model {name!r}; choose one of {', '.join(BACKBONES)}.")
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}; a classifier needs at least 2.")
    backbone, dim = BACKBONES[name](in_channels)
    head = head or partial(heads.Linear, bias_init_mean=bias_init_mean)
    return Network(backbone, head(dim, num_classes), frozen)
