"""The unconstrained-features model under one name: `closed_form` (balanced classes, free features), `nonnegative`
(those of a ReLU), `minimise` (any classes), and `flow` and `classifier_flow` (on the way to the minimum)."""

from bcebook.science import closed_form, nonnegative
from bcebook.science.classifier_flow import classifier_flow, common_part
from bcebook.science.closed_form import (
    FEATURES,
    LOSSES,
    MAX_CLASSES,
    Minimum,
    effective_c,
    feature_cosine,
    minority_collapse_size,
    paper_bias,
    separates,
    simplex_etf,
)
from bcebook.science.flow import BiasFlow, batch_noise, bias_flow, forgetting_time, resting_scores, speed
from bcebook.science.minimise import Solution, gradient, objective, solve

__all__ = [
    "BiasFlow",
    "FEATURES",
    "LOSSES",
    "MAX_CLASSES",
    "Minimum",
    "Solution",
    "assemble",
    "batch_noise",
    "bias_flow",
    "classifier_flow",
    "common_part",
    "critical_lambda_b",
    "effective_c",
    "feature_cosine",
    "forgetting_time",
    "gradient",
    "minimum",
    "minority_collapse_size",
    "objective",
    "paper_bias",
    "resting_scores",
    "separates",
    "simplex_etf",
    "solve",
    "speed",
]


def _of(features):
    return nonnegative if closed_form.known_features(features) == "nonnegative" else closed_form


def minimum(loss, num_classes, c, lambda_b=0.0, features="free"):
    """The global minimum for balanced classes as a Minimum: `closed_form.minimum`, or `nonnegative.minimum` for
    features "nonnegative". Raises ValueError for other ones."""
    return _of(features).minimum(loss, num_classes, c, lambda_b)


def critical_lambda_b(loss, num_classes, c, features="free"):
    """The decay of the bias at which the minimum changes its kind: `closed_form.critical_lambda_b` for free features,
    `nonnegative.critical_lambda_b` for nonnegative ones."""
    return _of(features).critical_lambda_b(loss, num_classes, c)


def assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class):
    """W (K, d), H (d, K) and b (K,) that realise a Minimum: `closed_form.assemble` or `nonnegative.assemble`."""
    return _of(minimum.features).assemble(minimum, num_classes, dim, lambda_w, lambda_h, per_class)
