"""What there is to train: one entry a data set (in DATASETS, or in STREAMED), one entry a network.

Validation of a run, loading, normalisation, augmentation and construction read these entries. A new data set is an
entry here and, unless torchvision has it as arrays, its reader in training/datasets.py; a new network is an entry
here and its backbone in training/models.py. No torch and no NumPy: the command line lists runs without them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A data set.

    sha256: over x_train, y_train, x_test, y_test in this order, in C order, as uint8 (labels of more than 256 classes
    as uint16): an altered file is never trained on. mean, std: per channel, in units of the full scale; None: those of
    all pixels of the training images in use.
    """

    name: str
    display: str  # as a person writes it
    num_classes: int
    train_count: int
    test_count: int
    image_shape: tuple[int, ...]  # of one image in the npz: (height, width) or (height, width, 3)
    side: int  # pixels of an image as the network gets it; where image_shape differs, images are resized
    channels: int  # of an image as the network gets it; a grey image is copied to each
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    flipped: bool  # whether DA1 flips horizontally
    rotation: float = 0.0  # DA1 rotates by up to so many degrees, either way
    torchvision: str | None = None  # its class in torchvision.datasets; None: it comes with a library
    sha256: str

    @property
    def images(self) -> str:
        """What kind of image a network gets: "8x8 grey", "32x32 colour"."""
        return _images(self.side, self.channels)


@dataclass(frozen=True, kw_only=True)
class StreamedSpec:
    """A data set of image files in folders, too large to live on a device (training/streamed.py). No digest: what is
    in the folders is whose they are.

    resized: pixels of the shorter side from whose middle an evaluation cuts `side`. The rest: see `DatasetSpec`.
    """

    name: str
    display: str
    num_classes: int
    side: int
    resized: int
    channels: int = 3
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def images(self) -> str:
        return _images(self.side, self.channels)


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A backbone.

    features: "signed", or "nonnegative" where a ReLU is the last thing before the classifier (but for pooling); the
    theory's features are free in sign, so this decides what of it can hold. origin: "paper", or "ours". mean, std: how
    a pretrained network wants its images normalised, as a data set's; None: as the data set's entry says.
    """

    name: str
    display: str
    side: int  # pixels of the images it is made for
    channels: int
    features: str
    origin: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def images(self) -> str:
        return _images(self.side, self.channels)


def _images(side: int, channels: int) -> str:
    return f"{side}x{side} {'grey' if channels == 1 else 'colour'}"


DENSE_EPOCHS = 20  # so many from the first on are measured, each of them: `measure.measured_epochs`

# CIFAR's as in the authors' code. Over all training pixels the standard deviation is 0.247; 0.202 is the mean over the
# images of each image's own.
_CIFAR = dict(
    image_shape=(32, 32, 3),
    side=32,
    channels=3,
    train_count=50_000,
    test_count=10_000,
    flipped=True,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)

DATASETS = {
    spec.name: spec
    for spec in (
        # Departs from the paper on digits alone, which it does not augment: DA1 crops them and does not flip them.
        DatasetSpec(
            name="digits",
            display="digits",
            num_classes=10,
            train_count=1442,
            test_count=355,
            image_shape=(8, 8),
            side=8,
            channels=1,
            mean=None,
            std=None,
            flipped=False,
            sha256="d313bada6eaba01d98ff107613ee95dd3002e65e9d198d6fbb96861d73b11265",
        ),
        DatasetSpec(
            name="mnist",
            display="MNIST",
            num_classes=10,
            train_count=60_000,
            test_count=10_000,
            image_shape=(28, 28),
            side=32,
            channels=3,
            mean=(0.1307,),
            std=(0.3081,),
            flipped=False,
            torchvision="MNIST",
            sha256="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
        ),
        DatasetSpec(
            name="cifar10",
            display="CIFAR10",
            num_classes=10,
            torchvision="CIFAR10",
            sha256="40f590e0867c1acdbdc405b55fa0c7442b4d204f4b5c9a2a9b492c97bd6f9573",
            **_CIFAR,
        ),
        DatasetSpec(
            name="cifar100",
            display="CIFAR100",
            num_classes=100,
            rotation=15.0,
            torchvision="CIFAR100",
            sha256="4ab2feb182e96339a7f01edb7e6dd0befb22417c3abd91f39edd5a36381d7c5f",
            **_CIFAR,
        ),
    )
}

STREAMED = {
    spec.name: spec
    for spec in (
        # Mean and deviation as torchvision's weights want them.
        StreamedSpec(
            name="imagenet",
            display="ImageNet-1k",
            num_classes=1000,
            side=224,
            resized=256,
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
    )
}

NETWORKS = {
    spec.name: spec
    for spec in (
        NetworkSpec(name="convnet", display="convnet", side=8, channels=1, features="signed", origin="ours"),
        NetworkSpec(
            name="convnet-relu", display="convnet-ReLU", side=8, channels=1, features="nonnegative", origin="ours"
        ),
        NetworkSpec(name="mlp", display="MLP", side=8, channels=1, features="signed", origin="ours"),
        NetworkSpec(name="mlp-relu", display="MLP-ReLU", side=8, channels=1, features="nonnegative", origin="ours"),
        NetworkSpec(name="vit-tiny", display="ViT-tiny", side=8, channels=1, features="signed", origin="ours"),
        NetworkSpec(name="vit-mini", display="ViT-mini", side=8, channels=1, features="signed", origin="ours"),
        NetworkSpec(name="resnet8", display="ResNet8", side=32, channels=3, features="signed", origin="ours"),
        NetworkSpec(name="resnet9", display="ResNet9", side=32, channels=3, features="nonnegative", origin="ours"),
        NetworkSpec(
            name="resnet9-signed", display="ResNet9-signed", side=32, channels=3, features="signed", origin="ours"
        ),
        NetworkSpec(name="resnet18", display="ResNet18", side=32, channels=3, features="nonnegative", origin="paper"),
        NetworkSpec(name="resnet50", display="ResNet50", side=32, channels=3, features="nonnegative", origin="paper"),
        NetworkSpec(
            name="densenet121", display="DenseNet121", side=32, channels=3, features="nonnegative", origin="paper"
        ),
        NetworkSpec(name="vit", display="ViT", side=32, channels=3, features="signed", origin="paper"),
        NetworkSpec(name="swin", display="Swin", side=32, channels=3, features="signed", origin="paper"),
        # Pretrained on ImageNet-1k (training/pretrained.py), on images less 127 over 128 of 255.
        NetworkSpec(
            name="efficientnet-lite0",
            display="EfficientNet-Lite0",
            side=32,
            channels=3,
            features="nonnegative",
            origin="ours",
            mean=(127 / 255,) * 3,
            std=(128 / 255,) * 3,
        ),
        # torchvision's, with its first weights of ImageNet-1k; the paper does not say which.
        *(
            NetworkSpec(
                name=f"{name.lower()}-224", display=name, side=224, channels=3, features="nonnegative", origin="paper"
            )
            for name in ("ResNet50", "ResNet101", "DenseNet161")
        ),
    )
}
