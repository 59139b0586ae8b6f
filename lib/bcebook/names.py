"""How losses, optimizers, networks, data sets and measures are written for a person: here, once."""

import re

LOSS = {"ce": "CE", "bce": "BCE"}
OPTIMIZER = {"sgd": "SGD", "adamw": "AdamW"}
AUGMENTATION = {
    "none": "no augmentation",
    "da1": "DA1",
    "da1+da2": "DA1+DA2",
    "da1+mixup": "DA1+Mixup",
    "da1+cutmix": "DA1+CutMix",
}
MODEL = {
    "resnet": "ResNet",
    "densenet": "DenseNet",
    "mlp": "MLP",
    "vit": "ViT",
    "swin": "Swin",
    "relu": "ReLU",
    "efficientnet-lite": "EfficientNet-Lite",
    "-224": "",
}  # of the same name, for larger images
DATASET = {"digits": "digits", "unstated": "unstated data", "imagenet": "ImageNet-1k"}
MEASURE = {  # columns of histories and final figures -> what a table's head says
    "accuracy": "$A$",
    "uniform_accuracy": r"$A_\text{Uni}$",
    "nc1": "NC1",
    "nc2": "NC2",
    "nc2_means": "NC2 of the means",
    "nc3": "NC3",
    "compactness": r"$E_\text{com}$",
    "distinctiveness": r"$E_\text{dis}$",
}


def of(name: str) -> str:
    """The display name of a loss, optimizer or augmentation: of("adamw") is "AdamW"; an unknown name is returned as it
    is."""
    return (LOSS | OPTIMIZER | AUGMENTATION).get(name, name)


def model(name: str) -> str:
    """A network's name as a person writes it: "resnet18" is "ResNet18"."""
    for low, proper in MODEL.items():
        name = name.replace(low, proper)
    return name


def dataset(name: str) -> str:
    """A data set's name as a person writes it: "cifar10" is "CIFAR10"."""
    return DATASET.get(name, name.upper())


def network(model_name: str, dataset_name: str) -> str:
    """A network and its data set: "ResNet18 on CIFAR10"."""
    return f"{model(model_name)} on {dataset(dataset_name)}"


def is_fraction(measure: str) -> bool:
    """Whether a measure is a fraction (an accuracy, of all classes or of some), which pages write as percent, and its
    differences as percentage points."""
    return re.search(r"accuracy(_many|_medium|_few)?$", measure) is not None
