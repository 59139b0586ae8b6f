"""ViT and Swin: against forward passes written out a second time, dropout that a kill does not change, and the
chapter's verdicts on planted runs."""

import itertools
import math

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F

from bcebook.chapters import catalog, recipes
from bcebook.chapters import transformers as room
from bcebook import claims
from bcebook.report import frames, markdown
from bcebook.runs.config import RunConfig
from bcebook.runs.store import Run
from bcebook.science.summaries import score_summary
from bcebook.training import checkpoint, datasets, loop, models

TINY = dict(dataset="digits", model="vit-mini", loss="bce", optimizer="adamw", learning_rate=0.003, epochs=2,
            schedule="cosine", train_size=300, lambda_w=5e-4, lambda_h=5e-4, lambda_b=0.0)


def norm(x, state, name):
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)


def vit_by_hand(state, images, patch, depth, heads, dim_head):
    """Class token, pre-norm attention and perceptron, a final LayerNorm; one image and one head at a time."""
    features = []
    for image in images:
        channels, side, _ = image.shape
        patches = torch.stack([image[:, r:r + patch, c:c + patch].permute(1, 2, 0).reshape(-1)
                               for r in range(0, side, patch) for c in range(0, side, patch)])
        at = "to_patch_embedding"
        x = norm(linear(norm(patches, state, f"{at}.1"), state, f"{at}.2"), state, f"{at}.3")
        x = torch.cat([state["cls_token"].view(1, -1), x]) + state["pos_embedding"].view(-1, x.shape[1])
        for i in range(depth):
            at = f"transformer.layers.{i}"
            query, key, value = (norm(x, state, f"{at}.0.norm") @ state[f"{at}.0.to_qkv.weight"].T).chunk(3, dim=1)
            out = []
            for head in range(heads):
                part = slice(head * dim_head, (head + 1) * dim_head)
                weights = (query[:, part] @ key[:, part].T / math.sqrt(dim_head)).softmax(dim=1)
                out.append(weights @ value[:, part])
            x = x + linear(torch.cat(out, dim=1), state, f"{at}.0.to_out.0")
            inner = F.gelu(linear(norm(x, state, f"{at}.1.net.0"), state, f"{at}.1.net.1"))
            x = x + linear(inner, state, f"{at}.1.net.4")
        features.append(norm(x, state, "transformer.norm")[0])
    return torch.stack(features)


@pytest.mark.parametrize("name,shape,parts", [("vit", (2, 3, 32, 32), (4, 6, 10, 64)),
                                              ("vit-tiny", (3, 1, 8, 8), (2, 2, 4, 16))])
def test_vit_is_its_definition(name, shape, parts):
    torch.manual_seed(0)
    model, images = models.build(name, 10, shape[1]).eval(), torch.randn(shape)
    with torch.no_grad():
        ours = model(images)[1]
        assert torch.allclose(ours, vit_by_hand(model.backbone.state_dict(), images, *parts), atol=1e-4)
    assert float((ours < 0).float().mean()) > 0.2  # free in sign


def regions(side, shift, window):
    """Which pairs of positions of a side x side map see each other: those that come from one window after the shift
    and were neighbours before it, (side^2, side^2)."""
    def place(p):
        r, c = (p // side - shift) % side, (p % side - shift) % side  # where the roll by -shift takes it
        wrapped = (p // side < shift, p % side < shift) if shift else ()
        # only in the last window are wrapped and unwrapped positions side by side
        return r // window, c // window, *wrapped
    return torch.tensor([[place(p) == place(q) for q in range(side**2)] for p in range(side**2)])


def swin_by_hand(state, images, window=4):
    """Every layer as attention over the whole map with a mask, instead of windows that are cut out."""
    x = images.permute(0, 2, 3, 1)  # (B, side, side, channels)
    for stage, (layers, heads, factor) in enumerate(((2, 3, 2), (2, 6, 2), (6, 12, 2), (2, 24, 1)), start=1):
        b, side, _, channels = x.shape
        new = side // factor
        cells = x.reshape(b, new, factor, new, factor, channels).permute(0, 1, 3, 5, 2, 4).reshape(b, new, new, -1)
        x, side = linear(cells, state, f"stage{stage}.patch_partition.linear"), new
        for layer in range(layers):
            at, shift = f"stage{stage}.layers.{layer // 2}.{layer % 2}", layer % 2 * (window // 2)
            tokens = norm(x, state, f"{at}.attention_block.fn.norm").reshape(b, side * side, -1)
            own = f"{at}.attention_block.fn.fn"
            query, key, value = (tokens @ state[f"{own}.to_qkv.weight"].T).chunk(3, dim=2)
            split = lambda t: t.reshape(b, side * side, heads, 32).transpose(1, 2)  # noqa: E731
            dots = split(query) @ split(key).transpose(2, 3) / math.sqrt(32)
            place = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1).view(-1, 2)
            inside = (place - shift) % side % window  # place within the window
            offset = inside[None, :, :] - inside[:, None, :] + window - 1
            dots = dots + state[f"{own}.pos_embedding"][offset[..., 0], offset[..., 1]]
            dots = dots.masked_fill(~regions(side, shift, window), -math.inf)
            out = (dots.softmax(dim=3) @ split(value)).transpose(1, 2).reshape(b, side, side, heads * 32)
            x = x + linear(out, state, f"{own}.to_out")
            own = f"{at}.mlp_block.fn"
            inner = F.gelu(linear(norm(x, state, f"{own}.norm"), state, f"{own}.fn.net.0"))
            x = x + linear(inner, state, f"{own}.fn.net.2")
    return norm(x.mean(dim=(1, 2)), state, "mlp_head")


def test_swin_is_its_definition():
    torch.manual_seed(0)
    model, images = models.build("swin", 10, 3).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model(images)[1], swin_by_hand(model.backbone.state_dict(), images), atol=1e-4)


def test_parameters_are_counted_by_hand():
    def count(name, channels):
        return sum(p.numel() for p in models.build(name, 10, channels).parameters() if p.requires_grad)

    def vit(channels, patches, patch, dim, depth, inner, mlp):
        pixels = channels * patch**2
        embedding = 2 * pixels + pixels * dim + dim + 2 * dim + (patches + 1) * dim + dim
        layer = 2 * dim + 3 * dim * inner + inner * dim + dim + 2 * dim + 2 * dim * mlp + mlp + dim
        return embedding + depth * layer + 2 * dim + 10 * dim + 10

    assert count("vit", 3) == vit(3, 64, 4, 512, 6, 640, 512)
    assert count("vit-tiny", 1) == vit(1, 16, 2, 64, 2, 64, 64)
    swin, before = 0, 3
    for layers, dim, factor in ((2, 96, 2), (2, 192, 2), (6, 384, 2), (2, 768, 1)):
        layer = 2 * dim + 3 * dim**2 + 49 + dim**2 + dim + 2 * dim + 8 * dim**2 + 4 * dim + dim
        swin += before * factor**2 * dim + dim + layers * layer
        before = dim
    assert count("swin", 3) == swin + 2 * 768 + 10 * 768 + 10


def steps(training, until=None):
    while not training.done and training.steps != until:
        training.step()
    return training


def same(one, other) -> bool:
    """Bit for bit: the weights, and the loss of every epoch."""
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and repr(one.history) == repr(other.history)


def test_a_run_with_dropout_goes_on_from_a_checkpoint_with_the_same_bits(tmp_path):
    config, digits, cpu = RunConfig(**TINY), datasets.load("digits"), torch.device("cpu")
    whole = steps(loop.Training(config, digits, cpu))
    first = steps(loop.Training(config, digits, cpu), until=4)
    checkpoint.save(tmp_path, first.steps, first.state())
    torch.manual_seed(99)
    torch.rand(7)  # what else the process draws in between
    second = loop.Training(config, digits, cpu)
    second.resume(tmp_path)
    steps(second)
    assert same(whole, second)
    # and dropout is really there: another state of its generator is another run
    third = loop.Training(config, digits, cpu)
    third.resume(tmp_path)
    third.noise = whole.noise
    steps(third)
    assert not same(third, whole)


def test_runs_with_dropout_in_turns_do_not_disturb_each_other_or_the_caller():
    digits, cpu = datasets.load("digits"), torch.device("cpu")
    configs = [RunConfig(**TINY), RunConfig(**TINY | {"seed": 1})]
    alone = [steps(loop.Training(config, digits, cpu)) for config in configs]
    torch.manual_seed(5)
    before, together = torch.get_rng_state(), [loop.Training(config, digits, cpu) for config in configs]
    while not together[0].done:
        for training in together:
            training.step()
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(alone, together, strict=True):
        assert same(one, other)


def planted(config, bias, positive, negative) -> Run:
    values = {"positive": torch.full((50,), positive), "negative": torch.full((450,), negative),
              "bias": torch.full((10,), float(bias))}
    scores = {kind: score_summary(each.double()).to_dict() for kind, each in values.items()}
    final = {"train_nc1": 0.1, "train_accuracy": 0.9, "test_accuracy": 0.8}
    history = {"epoch": [0.0, 1.0], "bias_mean": [config.bias_init_mean, float(bias)],
               "train_loss": [1.0] * (config.epochs + 1)}
    return Run(config, history, final, {}, {"train": scores, "test": scores}, {})


def runs(bce_bias=lambda config, closed: closed.get("bias", 0.0),
         ce_bias=lambda config: config.bias_init_mean, share=1.0) -> list[Run]:
    """The chapter's runs: scores at the closed form times `share`, biases as told."""
    found = []
    for config in catalog.configs("transformers", "quick"):
        blank = planted(config, 0, 0.0, 0.0)
        closed = frames.closed_form(blank)
        bias = bce_bias(config, closed) if config.loss == "bce" else ce_bias(config)
        found.append(planted(config, bias, share * closed["positive"], share * closed["negative"]))
    return found


def verdicts(of) -> dict:
    return {j.name.partition(".")[2]: j.finding.verdict for j in claims.judge(room.ROOM.claims, of)}


def test_each_verdict_follows_from_its_cause():
    def falls(config):
        return 5 - math.log10(config.lambda_b) if config.lambda_b else config.bias_init_mean

    as_claimed = runs(ce_bias=falls)
    assert set(verdicts(as_claimed).values()) == {"supported"}, verdicts(as_claimed)
    stuck = verdicts(runs(bce_bias=lambda config, closed: config.bias_init_mean, ce_bias=falls))
    assert stuck == verdicts(as_claimed) | {"bce_forgets": "contradicted", "bce_between": "contradicted"}
    moved = runs(ce_bias=lambda config: 0.0)
    assert verdicts(moved) == verdicts(as_claimed) | {"ce_stays": "contradicted", "ce_goes_down": "contradicted"}
    assert verdicts(runs(ce_bias=falls, share=0.8))["reaches_minimum"] == "contradicted"
    assert set(verdicts([]).values()) == {"not run"}


def test_the_views_stand_parts_of_their_runs():
    every = runs()
    for part in (every, [r for r in every if r.config.loss == "ce"], [r for r in every if not r.config.lambda_b]):
        text = room.ends(part).markdown() + room.gaps(part).markdown()
        text += markdown.findings(claims.judge(room.ROOM.claims, part))
        assert "nan" not in text
        plt.close(room.start_sweep(part))
        if room.of_decays(part):
            plt.close(room.decay_sweep(part))


def test_the_paper_profile_has_every_published_panel_of_both_networks():
    there = {(c.model, c.dataset, c.loss, c.optimizer) for c in catalog.configs("transformers", "paper")}
    assert there == set(itertools.product(("vit", "swin"), ("cifar10", "cifar100"), recipes.LOSSES,
                                          recipes.OPTIMIZERS))
    means = {c.bias_init_mean for c in catalog.configs("transformers", "paper") if not c.lambda_b}
    assert means == set(recipes.PAPER_MEANS)
