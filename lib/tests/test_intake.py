"""What the measures take in: every valid kind of array gives the same numbers, also on a device without float64."""

import numpy as np
import pytest
import torch

from bcebook.science import checks, metrics, retrieval, summaries, uniform

RNG = np.random.default_rng(0)
H, Y = RNG.integers(-8, 9, (24, 4)).astype(float), np.arange(24) % 3  # exact in bfloat16
W, B, Z = RNG.integers(-4, 5, (3, 4)).astype(float), np.array([1.0, 0.5, -2.0]), RNG.integers(-8, 9, (24, 3)).astype(float)

MEASURES = {
    "neural_collapse": lambda h, y, w, b, z: metrics.neural_collapse(h, y, w),
    "mean_cosines": lambda h, y, w, b, z: metrics.mean_cosines(h, y, centred=True),
    "feature_lengths": lambda h, y, w, b, z: metrics.feature_lengths(h, y),
    "tail_geometry": lambda h, y, w, b, z: metrics.tail_geometry(h, y),
    "compactness": lambda h, y, w, b, z: metrics.compactness(h, y),
    "distinctiveness": lambda h, y, w, b, z: metrics.distinctiveness(h, y),
    "pair_distinctiveness": lambda h, y, w, b, z: metrics.pair_distinctiveness(h, y),
    "effective_rank": lambda h, y, w, b, z: metrics.effective_rank(h),
    "nc0": lambda h, y, w, b, z: metrics.nc0(w),
    "nc4": lambda h, y, w, b, z: metrics.nc4(h, z, w),
    "class_means": lambda h, y, w, b, z: metrics.class_means(h, y).tolist(),
    "accuracy": lambda h, y, w, b, z: uniform.accuracy(z, y),
    "uniform_accuracy": lambda h, y, w, b, z: uniform.uniform_accuracy(z, y),
    "class_thresholds": lambda h, y, w, b, z: uniform.class_thresholds(z, y),
    "uniform_accuracy_scales": lambda h, y, w, b, z: uniform.uniform_accuracy_scales(h, y, w, b),
    "uniform_gap": lambda h, y, w, b, z: uniform.uniform_gap(h, y, w, b),
    "served_share": lambda h, y, w, b, z: uniform.served_share(z, y, 0.5),
    "margins": lambda h, y, w, b, z: uniform.margins(z, y).tolist(),
    "score_summary": lambda h, y, w, b, z: summaries.score_summary(b),
    "decision_scores_summary": lambda h, y, w, b, z: summaries.decision_scores_summary(z, y, b),
    "cosine": lambda h, y, w, b, z: retrieval.retrieval(h, y, "cosine"),
    "euclidean": lambda h, y, w, b, z: retrieval.retrieval(h, y, "euclidean"),
    "similarities": lambda h, y, w, b, z: retrieval.similarities(h, "cosine").tolist(),
}


def frozen(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


class WithoutFloat64(torch.Tensor):
    """A tensor on a device that, as Apple's GPU, knows no float64; `cpu` and `to` lead off it, into plain tensors."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function == torch.Tensor.device.__get__:
            return torch.device("mps")
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **(kwargs or {}))
        if function is torch.Tensor.cpu or function is torch.Tensor.to and torch.device("cpu") in args:
            return found.as_subclass(torch.Tensor)
        if isinstance(found, torch.Tensor):
            if found.dtype == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it.")
            return found.as_subclass(cls)
        return found


def to_torch(x: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x = torch.from_numpy(x)
    return x.to(dtype) if x.is_floating_point() else x


KINDS = {
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "columns first": np.asfortranarray,
    "read-only": frozen,
    "float16": lambda x: x.astype(np.float16 if x.dtype == float else np.uint16),
    "longdouble": lambda x: x.astype(np.longdouble if x.dtype == float else np.uint64),
    "torch bfloat16": lambda x: to_torch(x, torch.bfloat16),
    "torch float16": lambda x: to_torch(x, torch.float16),
    "torch uint16": lambda x: to_torch(x) if x.dtype == float else to_torch(x.astype(np.uint16)),
    "requires grad": lambda x: to_torch(x).requires_grad_(x.dtype == float),
    "no float64": lambda x: to_torch(x).as_subclass(WithoutFloat64),
}


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_valid_array_gives_the_same_numbers(measure, kind):
    given = [KINDS[kind](x) for x in (H, Y, W, B, Z)]
    assert repr(MEASURES[measure](*given)) == repr(MEASURES[measure](H, Y, W, B, Z))


def test_the_device_without_float64_refuses_it():
    x = torch.ones(2, 2).as_subclass(WithoutFloat64)
    for forbidden in (x.double, lambda: x.to(torch.float64), lambda: x.new_zeros(2, dtype=torch.float64)):
        with pytest.raises(TypeError, match="float64"):
            forbidden()
    assert x.device.type == "mps" and type(x + 1) is WithoutFloat64 and type(x.cpu()) is torch.Tensor


@pytest.mark.parametrize("error", [TypeError, RuntimeError, NotImplementedError])
def test_float64_is_found_by_trying(error, monkeypatch):
    def ones(*size, dtype, device):
        raise error("no float64 here")

    assert checks.has_float64(torch.device("cpu"))
    monkeypatch.setattr(torch, "ones", ones)
    assert not checks.has_float64.__wrapped__(torch.device("xpu"))


def test_a_tensor_stays_where_float64_is():
    x = torch.ones(2, 3)
    assert checks.array(x, "x", 2, "float").data_ptr() == x.data_ptr()


@pytest.mark.parametrize("call, named", [
    (lambda: metrics.nc4(H, Z[:23], W), r"features \(24, 4\), logits \(23, 3\) and means \(3, 4\) do not go together"),
    (lambda: metrics.nc4(H, Z, W[:2]), "do not go together"),
    (lambda: metrics.nc4(H * np.nan, Z, W), "features must be finite"),
    (lambda: metrics.nc0(W.astype(complex)), "of some float type.*complex128"),
    (lambda: metrics.nc0(W.astype(object)), "of some float type.*object"),
    (lambda: metrics.nc0(np.full((2, 2), np.finfo(np.longdouble).max)), "must be finite"),
    (lambda: metrics.nc0(np.array([["a"]], dtype=np.dtypes.StringDType())), "of some float type.*StringDType"),
    (lambda: uniform.accuracy(Z, Y.astype(">U1")), "labels must be .* int type.*U1"),
])
def test_the_rest_is_named_in_a_sentence(call, named):
    with pytest.raises(ValueError, match=named), np.errstate(over="ignore"):
        call()
