# ---
# jupyter:
#   bcebook:
#     experiment: accuracy
#     items:
#     - accuracy
#     number: 1
#     of_the_paper: table of accuracies on CIFAR10 and CIFAR100
#     part: tables
#     question: is BCE more accurate than CE?
#     short: Accuracy
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-papermill
#     notebook_metadata_filter: kernelspec,jupytext,bcebook,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Accuracy and uniform accuracy

# %% tags=["parameters"]
profile = "quick"  # or "laptop", "paper"; "recorded" trains nothing
device = "auto"  # CUDA where there is one; or "cpu", "cuda"
data_dir = None  # None: the repository's data/
seeds = None  # None: the chapter's own; or a list

# %% tags=["definitions"]
import pandas as pd
from IPython.display import Markdown

from bcebook import frame, names, paper
from bcebook.chapters import recipes
from bcebook.claims import Claim
from bcebook.report import frames, markdown, plots, tables
from bcebook.science import stats, verdicts

# To compare another measure, add or replace a column of `runs` here: {"train_nc1": "NC1"}.
MEASURES = {"test_accuracy": "accuracy", "test_uniform_accuracy": "uniform accuracy"}
PAPER = {"test_accuracy": "paper_accuracy", "test_uniform_accuracy": "paper_uniform_accuracy"}  # the paper's difference
SETTING = [*frame.SETTING, "recipe"]
RECIPE = {recipes.AUTHORS: "authors' recipe", recipes.FORMER: "former recipe"}


def of_recipe(runs, *wanted):
    """One row for each run and recipe that it follows, where both losses have a run of that seed."""
    found = runs.assign(recipe=[recipes.recipes_of(row) for row in runs.itertuples()]).explode("recipe")
    found = found[found["recipe"].isin(wanted or (recipes.AUTHORS, recipes.FORMER))]
    both = found.groupby([*SETTING, "seed"])["loss"].transform("nunique") == 2
    return found[both].sort_values("recipe", kind="stable")


def label(row, runs):
    """A setting in a few words."""
    return f"{frame.label(row, runs['network'].nunique() > 1)}, {RECIPE[row['recipe']]}"


def differences(runs):
    """BCE minus CE, seed by seed: a row for each setting and measure."""
    pairs = frame.compare(of_recipe(runs), list(MEASURES), by=SETTING)
    return pairs.assign(label=[label(row, runs) for _, row in pairs.iterrows()])


def result(runs):
    """The result in one paragraph."""
    lines = []
    for (recipe, measure), rows in differences(runs).groupby(["recipe", "measure"], sort=False):
        effects = [f"{tables.difference(measure, row.estimate, 1)} with {names.of(row.optimizer)}"
                   for row in rows.itertuples()]
        seeds = markdown.counted(rows["n"].max(), "seed")
        lines.append(f"- {MEASURES[measure]}, {RECIPE[recipe]}, {seeds}: {markdown.listed(effects)}")
    where = markdown.listed(runs["network"].unique())
    return Markdown("\n".join([f"**BCE minus CE on {where}** [95 % interval]; the two recipes are explained below:", "",
                               *sorted(lines, key=lambda line: "uniform" not in line)]))


# %%
from bcebook import book

chapter = book.open("accuracy", profile, device, data_dir, seeds)
runs = chapter.runs  # a DataFrame, one row a run
result(runs)


# %% [markdown]
# **The paper's claim** {cite:p}`li2025bce`: networks trained with BCE reach a higher accuracy than networks trained
# with CE in most settings, and a higher uniform accuracy {eq}`eq-uniform` in all.
#
# **How it is tested.** BCE and CE are compared seed by seed: runs of equal seed share the initial weights, the order of
# the images and the random augmentation. Each setting is tested for "BCE is higher", including those where the paper's
# table shows the opposite. That table has one number per setting and no interval. Detecting a difference of a fraction
# of a point takes several seeds; a few are enough for a difference of many points.
#
# **Two recipes.** In the authors' accuracy experiments, BCE's biases start around $6$ and CE's around $0$, and AdamW's
# weight decay is a hundred times that of SGD. The settings come from an early public version of their code
# ({doc}`departures` quotes it). The *former recipe*, with which the first runs of this book were
# trained, uses one weight decay for both optimizers and starts all biases at $0$. Comparing the two recipes shows the
# effect of the recipe alone.
#
# DA1 is random cropping and flipping (digits are only cropped). DA2 adds Mixup or CutMix, one of the two for each
# batch, with label smoothing.

# %% tags=["definitions"]
def accuracy_differences(runs):
    """BCE minus CE in accuracy and uniform accuracy, a row for each setting, beside the paper's difference."""
    pairs = frames.with_published(differences(runs))
    return plots.differences(pairs, MEASURES, PAPER)


# %% mystnb={"figure": {"caption": "BCE minus CE in test accuracy (left) and test uniform accuracy (right) after the last epoch, for each optimizer, augmentation and recipe. Faint dots: single seeds. Large dots and bars: their mean and its 95 % interval (Student's t), which decides the verdict. Hollow diamonds: the paper's table (the note below the table names the network).", "name": "fig-accuracy-differences"}, "image": {"alt": "Two dot plots with a row for each optimizer, augmentation and recipe: BCE minus CE in accuracy on the left and in uniform accuracy on the right, each with its seeds, their mean and interval, a line at zero and, where there is one, the difference in the paper's table."}}
accuracy_differences(runs);

# %% [markdown]
# **What the figure shows.** A bar that excludes zero shows a difference between the losses. A dot without a bar is a
# single seed and is inconclusive. The two panels have different scales: uniform accuracy differs by several points,
# accuracy by fractions of a point. Uniform accuracy counts a sample only if one threshold, the same for all samples,
# separates its own logit from the others; BCE is trained for such a threshold, and CE is not.
#
# ## Verdicts
#
# Two accuracies count as *equivalent* if two one-sided tests bound their difference by half a point. The margin was
# chosen after seeds $0$ to $2$, which are exploratory. Only the authors' recipe, which has new seeds, is therefore
# tested for equivalence.

# %% tags=["definitions"]
MARGIN = 0.005  # half a point of accuracy


def higher(runs, measure, share=1.0, margin=0.0):
    """Is BCE higher in at least this share of the settings, and lower in none?"""
    pairs = frame.compare(runs, measure, by=SETTING)
    parts = [verdicts.sign(row["estimate"], unit="points", p=row["p"], label=label(row, runs), margin=margin,
                           equivalence=stats.equivalence_p(row["each"], margin) if margin else float("nan"))
             for _, row in pairs.iterrows()]
    return verdicts.family(parts, stats.holm, share=share)


def changes(runs):
    """What the recipe alone changes in BCE minus CE; the recipes have seeds of their own, so Welch's interval."""
    rows = []
    for _, group in differences(runs).groupby([*frame.SETTING, "measure"], sort=False):
        found = group.set_index("recipe")
        if {recipes.AUTHORS, recipes.FORMER} <= set(found.index):
            change, p = stats.welch(found.loc[recipes.AUTHORS, "each"], found.loc[recipes.FORMER, "each"])
            rows.append(found.iloc[0].to_dict() | found["estimate"].to_dict() | {"change": change, "p": p})
    return pd.DataFrame(rows, columns=[*frame.SETTING, "measure", recipes.AUTHORS, recipes.FORMER, "change", "p"])


def recipe_helps(runs):
    """Does the authors' recipe raise BCE's accuracy against CE's?"""
    several = runs["network"].nunique() > 1
    return verdicts.family([verdicts.sign(row["change"], unit="points", p=row["p"], label=frame.label(row, several))
                            for _, row in changes(runs).iterrows() if row["measure"] == "test_accuracy"], stats.holm)


def in_the_paper(measure):
    """BCE minus CE in the paper's table: the differences, and how often BCE is above, below and level."""
    table = paper.accuracy().pivot(index=frame.SETTING, columns="loss", values=measure)
    gap = (table["bce"] - table["ce"]).round(6)  # the table's own digits: a tie is a tie
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    p = stats.sign_test_p(wins, losses)
    detail = (f"of all {len(gap)} pairs, BCE is above CE in {wins}, below in {losses} and equal "
              f"in {len(gap) - wins - losses}; the sign test overstates the evidence, because pairs of one network and "
              "data set are not independent")
    return wins, losses, len(gap), p, detail


def table_accuracy():
    wins, losses, _, p, detail = in_the_paper("accuracy")
    return verdicts.most(wins, losses, p, "BCE is above CE").but(detail=detail)


def table_uniform():
    wins, _, pairs, p, detail = in_the_paper("uniform_accuracy")
    return verdicts.every(wins, pairs, "BCE is above CE", of="pairs").but(detail=detail, p=p)


# %% tags=["definitions"]
TABLE = "the paper's table of accuracies"
SETTINGS = "the settings in which BCE's {} on the test set is higher, after Holm's adjustment"


def compared(name, text, recipe, measure, source=TABLE, front=0, **rule):
    """A claim that BCE is higher in one measure by one recipe."""
    words = measure.removeprefix("test_").replace("_", " ")
    return Claim(f"accuracy.{name}", text, source, SETTINGS.format(words),
                 lambda runs: higher(runs, measure, **rule), compares=lambda runs: of_recipe(runs, recipe),
                 front=front, effect=f"{words}, BCE − CE")


CLAIMS = (
    compared("higher_accuracy", "BCE reaches a higher accuracy than CE in most settings", recipes.AUTHORS,
             "test_accuracy", share=0.5, margin=MARGIN),
    compared("higher_uniform", "BCE reaches a higher uniform accuracy than CE in all settings", recipes.AUTHORS,
             "test_uniform_accuracy"),
    compared("former_uniform", "With the former recipe (biases start at 0), BCE reaches a higher uniform accuracy "
             "than CE", recipes.FORMER, "test_uniform_accuracy", source="ours", front=1),
    compared("former_accuracy", "With the former recipe (biases start at 0), BCE reaches a higher accuracy than CE",
             recipes.FORMER, "test_accuracy", source="ours", share=0.5, front=2),
    Claim("accuracy.recipe", "Changing only the recipe, from the former to the authors', raises BCE's accuracy "
          "relative to CE's", "ours",
          "BCE − CE in test accuracy with the authors' recipe minus BCE − CE with the former recipe, in "
          "each setting, after Holm's adjustment", recipe_helps, compares=of_recipe),
    Claim("accuracy.table_accuracy", "In the paper's own table, BCE has a higher accuracy than CE in most settings",
          TABLE, "the pairs of the table in which BCE is higher, ties left out", table_accuracy, theory=True),
    Claim("accuracy.table_uniform", "In the paper's own table, BCE has a higher uniform accuracy than CE in all "
          "settings", TABLE, "the pairs of the table in which BCE is higher", table_uniform, theory=True),
)

# %%
chapter.judge(CLAIMS, runs)


# %% [markdown]
# ## The numbers
#
# The differences in points and in test images, beside the paper's:

# %% tags=["definitions"]
def gaps(runs):
    """BCE minus CE in percentage points and in test images: a row for each setting and measure."""
    pairs = frames.with_published(differences(runs))
    size = {run.config.dataset: run.scores["test"]["positive"]["count"] for run in runs["run"]}
    pairs = pairs.assign(
        text=[tables.difference(row.measure, row.estimate) for row in pairs.itertuples()],
        images=(pairs["mean"] * pairs["dataset"].map(size)).where(pairs["measure"].map(names.is_fraction)),
        paper=[getattr(row, PAPER.get(row.measure, ""), float("nan")) for row in pairs.itertuples()],
        measure=pairs["measure"].map(MEASURES))
    return tables.styled(pairs, {
        "setting": ("label", str), "measure": ("measure", str),
        "BCE − CE [95 %]": ("text", str), "test images": ("images", lambda x: markdown.number(x, 1, sign=True)),
        "seeds": ("n", str), "paper, points": ("paper", tables.signed_percent),
    }, f"Means over the seeds with Student's interval of the paired differences. The paper's column: "
       f"{frames.published_of(pairs)}.")


def final_and_best(runs):
    """Accuracy and uniform accuracy after the last and at the best epoch: a row for each setting and loss."""
    chosen = of_recipe(runs)
    measures = [name for measure in MEASURES for name in (measure, f"best_{measure}") if name in runs]
    rows = frame.summarise(chosen, measures, by=[*SETTING, "loss"])
    heads = {name: f"{'best ' if 'best_' in name else ''}{MEASURES[name.removeprefix('best_')]}" for name in measures}
    rows = rows.assign(label=[label(row, runs) for _, row in rows.iterrows()])
    return tables.styled(rows, {"setting": ("label", str), "loss": ("loss", names.of)}
                         | {head: (name, tables.mean_std(name)) for name, head in heads.items()},
                         "Accuracies in percent of the test set; mean ± standard deviation over the seeds.")


# %%
gaps(runs)

# %% [markdown]
# The accuracies themselves. *Best* is the largest value over the measured epochs, chosen on the test set as in the
# authors' script, which biases it upwards. The paper does not say which of the two its table reports.

# %%
final_and_best(runs)


# %% [markdown]
# ## What the recipe changes
#
# BCE minus CE with each recipe, and the change from the former to the authors' with Welch's interval. The authors'
# recipe starts BCE's biases high; the second table varies only that start. {doc}`initial_bias` shows why the start can
# still matter at the end of training.

# %% tags=["definitions"]
def recipe_table(runs):
    """What the recipe alone changes in BCE minus CE: a row for each setting and measure."""
    rows, several = changes(runs), runs["network"].nunique() > 1
    texts = {name: [tables.difference(row["measure"], row[name]) for _, row in rows.iterrows()]
             for name in (recipes.AUTHORS, recipes.FORMER, "change")}
    rows = rows.assign(label=[frame.label(row, several) for _, row in rows.iterrows()], **texts,
                       measure=rows["measure"].map(MEASURES))
    return tables.styled(rows, {"setting": ("label", str), "measure": ("measure", str),
                                "BCE − CE, authors' recipe": (recipes.AUTHORS, str),
                                "former recipe": (recipes.FORMER, str), "change": ("change", str)})


def starts(runs):
    """BCE from each start of its biases, with the authors' weight decay: accuracies, and where the biases end."""
    decay = (runs["optimizer"] == "sgd") == (runs["weight_decay"] == recipes.PAPER_DECAY)
    chosen = runs[(runs["loss"] == "bce") & (runs["decay"] == "global") & decay]
    rows = frame.summarise(chosen, [*MEASURES, "bias_end"], by=[*frame.SETTING, "bias_init_mean"])
    rows = rows.assign(label=[frame.label(row, runs["network"].nunique() > 1) for _, row in rows.iterrows()],
                       end=[each.mean for each in rows["bias_end"]], seeds=[each.n for each in rows["bias_end"]])
    return tables.styled(rows.sort_values(["optimizer", "bias_init_mean"], ascending=[False, True]), {
        "setting": ("label", str), "initial bias": ("bias_init_mean", "{:g}"), "final bias": ("end", markdown.number),
        **{title: (measure, tables.mean_std(measure)) for measure, title in MEASURES.items()}, "seeds": ("seeds", str)},
        "Accuracies of BCE in percent of the test set. The biases are means over the classes.")


# %%
recipe_table(runs)

# %%
starts(runs)


# %% [markdown]
# ## The paper's own table
#
# Accuracy (A) and uniform accuracy (A_Uni) in percent, and BCE minus CE in percentage points. The networks that the
# paper fine-tuned on ImageNet-1k are in {doc}`fine_tuning`.

# %% tags=["definitions"]
def published():
    """The paper's table, a row for each pair of losses."""
    table = paper.accuracy().pivot(index=frame.SETTING, columns="loss", values=["accuracy", "uniform_accuracy"])
    order = paper.accuracy()[frame.SETTING].drop_duplicates()
    table = table.reindex(pd.MultiIndex.from_frame(order))
    rows = order.assign(label=[frame.label(row, True) for _, row in order.iterrows()])
    formats = {"setting": ("label", str)}
    for measure, head in (("accuracy", "A"), ("uniform_accuracy", "A_Uni")):
        for loss in recipes.LOSSES:
            rows[f"{measure} {loss}"] = table[measure, loss].to_numpy()
            formats[f"{head}, {names.of(loss)}"] = (f"{measure} {loss}", tables.percent)
        rows[f"{measure} gap"] = rows[f"{measure} bce"] - rows[f"{measure} ce"]
        formats[f"{head}, BCE − CE"] = (f"{measure} gap", tables.signed_percent)
    return tables.styled(rows, formats)


# %%
published()

# %% [markdown]
# ## Details
#
# An interval here covers the variation between seeds, not between test sets or settings. {doc}`departures` lists all
# differences from the paper. Below: the same figure, tables and verdicts from the runs of other profiles, and the
# settings behind all numbers.

# %% tags=["definitions"]
VIEWS = (accuracy_differences, gaps, recipe_table)

# %% tags=["hide-output"]
chapter.rebuilt(VIEWS, CLAIMS)

# %% tags=["hide-output"]
chapter.provenance()
