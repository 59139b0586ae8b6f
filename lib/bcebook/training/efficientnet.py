"""EfficientNet-Lite0 as the file of its weights has it, its classifier left out.

Source: Tan and Le, "EfficientNet", ICML 2019; Lite (Google, 2020) is the one without squeeze-and-excitation, and with
ReLU6 for Swish. Parameters have the names of the published file, without the underscores in front of them.
"""

import math
import re

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (  # repeats, kernel, stride of the first, expansion, width
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, WIDTH = 32, 1280


class Same(nn.Conv2d):
    """A convolution that pads as TensorFlow's "same" does: an odd number of pixels has its larger half at the right and
    the bottom, which for a stride of two is not what torch's own padding does."""

    def forward(self, x: Tensor) -> Tensor:
        around = []
        for size, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            around = [total // 2, total - total // 2, *around]  # F.pad begins with the last axis
        return super().forward(F.pad(x, around))


def _norm(width: int) -> nn.BatchNorm2d:
    # The file's own momentum is 0.01: a short fine-tuning would be measured with the statistics of other images.
    return nn.BatchNorm2d(width, eps=1e-3, momentum=0.1)


class Block(nn.Module):
    """1x1 up, depthwise, 1x1 down; around an identity where it fits. (B, width, H, W) -> (B, out, H/s, W/s)."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = expansion * width
        if expansion > 1:
            self.expand_conv, self.bn0 = nn.Conv2d(width, inner, 1, bias=False), _norm(inner)
        self.depthwise_conv = Same(inner, inner, kernel, stride, groups=inner, bias=False)
        self.bn1 = _norm(inner)
        self.project_conv, self.bn2 = nn.Conv2d(inner, out, 1, bias=False), _norm(out)
        self.expands, self.residual = expansion > 1, stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.bn0(self.expand_conv(x)), inplace=True) if self.expands else x
        y = F.relu6(self.bn1(self.depthwise_conv(y)), inplace=True)
        y = self.bn2(self.project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) -> (B, 1280), not negative. side: the images are first enlarged to so many pixels, bilinearly; None:
    they stay as they are.

    Without the dropout and the dropped blocks of its pretraining: what is fine-tuned for a few epochs does not need
    them, and the losses are compared without noise of the network's own.
    """

    def __init__(self, side: int | None):
        super().__init__()
        self.enlarge = nn.Upsample(side, mode="bilinear") if side else nn.Identity()
        self.conv_stem, self.bn0 = Same(3, STEM, 3, 2, bias=False), _norm(STEM)
        blocks, width = [], STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for index in range(repeats):
                blocks.append(Block(width, out, kernel, 1 if index else stride, expansion))
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = nn.Conv2d(width, WIDTH, 1, bias=False), _norm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.bn0(self.conv_stem(self.enlarge(x))), inplace=True)
        for block in self.blocks:
            x = block(x)
        x = F.relu6(self.bn1(self.conv_head(x)), inplace=True)
        return x.mean(dim=(2, 3))

    def load_published(self, weights: dict[str, Tensor]) -> None:
        """Take over the tensors of the published file, all but its classifier's."""
        named = {re.sub(r"(^|\.)_", r"\1", name): value for name, value in weights.items()}
        self.load_state_dict({name: value for name, value in named.items() if not name.startswith("fc.")})
