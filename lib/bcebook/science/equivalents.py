"""Which decays make two losses, or two options of one loss, equal at the minimum of the unconstrained-features model.

f, its symbols and units as in `closed_form`; both decays times r are c times r. A factor a on the loss divides all
decays by a. Source: ours (lead 9 of the project); for CE with label smoothing compare Guo et al., arXiv 2402.03979.
"""

import numpy as np

from bcebook.science import numerics
from bcebook.science.closed_form import classes, finite, smoothing

OVER_CLASSES = ("sum", "mean")


def equivalent_decay(loss, scores_of, num_classes, c):
    """The factor by which both decays have to be multiplied so that `loss` has the scores that `scores_of` has at c.

    lambda_b = 0; c a number or an array. With g = positive - negative score, e^g - 1 is (1 - K c) / c for CE and (1 - K
    c) / ((K-1) c^2) for BCE, and these are solved for c. 1 from c = 1/K on, where neither loss has scores.

    >>> c = 5e-4 * 12.8**0.5  # the paper's, for ten classes
    >>> round(equivalent_decay("bce", "ce", 10, c), 2), round(1 / equivalent_decay("ce", "bce", 10, c), 1)
    (7.41, 61.0)
    """
    k = classes(num_classes, loss)
    classes(k, scores_of)
    c = np.minimum(finite("c", c, above=True), 1 / k)
    room = np.maximum(0.0, 1 - k * c)
    if loss == scores_of:
        return numerics.plain(np.ones_like(c))
    if loss == "ce":
        return numerics.plain((k - 1) * c / ((k - 1) * c * k * c + room))  # 1 / (K + e^g - 1), over c
    return numerics.plain(2 / (k * c + np.sqrt((k * c) ** 2 + 4 * (k - 1) * c * room)))


def loss_factor(loss, num_classes, over_classes="sum"):
    """What a loss is multiplied by: 1 for a sum of BCE over the classes, as in the paper, and 1/K for a mean; CE has no
    such option. Raises ValueError for anything else.

    >>> loss_factor("bce", 4), loss_factor("bce", 4, "mean")
    (1.0, 0.25)
    """
    k = classes(num_classes, loss)
    if over_classes not in OVER_CLASSES or (loss == "ce" and over_classes != "sum"):
        raise ValueError(f"over_classes is {over_classes!r}; expected sum or, for BCE, mean.")
    return 1 / k if over_classes == "mean" else 1.0


def trivial_from(lambda_w, lambda_h, batch_size, over_classes="mean", label_smoothing=0.0):
    """The smallest number of classes for which all scores agree at BCE's minimum, for training with mini-batches.

    They do where a c >= (1 - e) / K with c = sqrt(lambda_w lambda_h B / K), a = K for a mean over the classes: from K =
    ((1 - e)^2 / (lambda_w lambda_h B))^(1/3) on. For a sum, a = 1, and the power is 1; CE has the same number there.

    >>> trivial_from(5e-4, 5e-4, 128), trivial_from(5e-4, 5e-4, 128, "sum")
    (32, 31250)
    """
    scale = (
        finite("lambda_w", lambda_w, True) * finite("lambda_h", lambda_h, True) * finite("batch_size", batch_size, True)
    )
    power = 1.0 if loss_factor("bce", 2, over_classes) == 1 else 1 / 3
    found = float((1 - smoothing(label_smoothing)) ** 2 / scale) ** power
    return max(2, int(np.ceil(found * (1 - 1e-12))))  # an exact whole number is not missed by rounding
