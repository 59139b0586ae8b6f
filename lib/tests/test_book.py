"""The book itself: its sources, and the whole quick build as a reader makes it."""

import ast
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import jupytext
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import pytest

from bcebook.book import build
from bcebook.chapters import catalog, claims, figures
from bcebook.report import frames
from bcebook.book.notebook import Chapter
from bcebook.runs.store import open_store

BOOK = build.BOOK
PROGRAM = [sys.executable, "-c", "from bcebook.cli import main; main()"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("name", catalog.CHAPTERS)
def test_the_two_halves_of_a_chapter_agree(name):
    script, notebook = jupytext.read(BOOK / f"{name}.py"), nbformat.read(BOOK / f"{name}.ipynb", 4)
    plain = lambda nb: [(c.cell_type, c.source, dict(c.metadata)) for c in nb.cells]  # noqa: E731
    assert plain(script) == plain(notebook), f"run: jupytext --sync book/{name}.py"
    assert all(not c.outputs and c.execution_count is None for c in notebook.cells if c.cell_type == "code"), "outputs are committed"


@pytest.mark.parametrize("name", catalog.CHAPTERS)
def test_a_chapter_has_one_cell_of_literal_parameters(name):
    cells = [c for c in jupytext.read(BOOK / f"{name}.py").cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    values = {n.targets[0].id: ast.literal_eval(n.value) for n in ast.parse(cells[0].source).body}
    assert values == {"profile": "quick", "device": "auto", "data_dir": None, "seeds": None}


def test_every_chapter_is_in_the_index_and_every_notebook_is_a_chapter():
    toctree = "\n".join(re.findall(r"```\{toctree\}(.*?)```", (BOOK / "index.md").read_text(), re.S))
    assert [line for line in toctree.splitlines() if line in catalog.CHAPTERS] == list(catalog.CHAPTERS)
    assert {p.stem for p in BOOK.glob("*.ipynb")} == set(catalog.CHAPTERS) == {p.stem for p in BOOK.glob("*.py")} - {"conf"}
    for name, title in catalog.CHAPTERS.items():
        assert f"# # {title}\n" in (BOOK / f"{name}.py").read_text()


# --- the whole quick book, built once for the tests below ------------------------------------------------------------------

@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(data folder, output folder) of a cold quick build by the command itself."""
    folder = tmp_path_factory.mktemp("book")
    done = subprocess.run([*PROGRAM, "build", "--data", folder / "data", "--out", folder / "out"], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert str(folder / "out" / "html" / "index.html") in done.stdout
    return folder / "data", folder / "out"


def runs_of(chapter: str, data: Path) -> list:
    store = open_store(data)
    return [store.find(config) for config in catalog.configs(chapter, "quick")]


def test_ce_leaves_the_biases_and_bce_puts_them_between_the_scores(built):
    """The paper's claim, for every initial mean, both optimizers."""
    runs = runs_of("initial_bias", built[0])
    assert len(runs) == 36
    for run in runs:
        start, end = run.history["bias_mean"][0], run.history["bias_mean"][-1]
        assert abs(start - run.config.bias_init_mean) < 0.15  # ten draws in +- 0.18
        if run.config.loss == "ce":
            assert abs(end - start) < 0.1
        else:
            positive, bias, negative = (frames.summary(run, "train", kind).median for kind in ("positive", "bias", "negative"))
            assert negative + 1 < bias < positive - 1, run.config.describe()
    # The bias works under BCE: it moves a unit and more where it starts far from the closed form (5.28).
    moved = {r.config.bias_init_mean: r.history["bias_mean"][-1] - r.history["bias_mean"][0] for r in runs
             if (r.config.loss, r.config.optimizer) == ("bce", "sgd")}
    assert moved[0] > 1 and moved[10] < -1


def test_decay_takes_ces_bias_down_as_predicted_and_bces_no_further_than_the_scores(built):
    """Plain SGD on a quantity that only the decay moves: the prediction holds within a twentieth at every lambda_b."""
    runs = runs_of("bias_decay", built[0])
    for run in runs:
        bias, end = frames.summary(run, "train", "bias"), run.history["bias_mean"][-1]
        if (run.config.loss, run.config.optimizer) == ("ce", "sgd"):
            assert abs(end - frames.ce_bias_under_decay(run)) < 0.01 + 0.05 * end, run.config.describe()
        elif run.config.loss == "bce":
            positive, negative = (frames.summary(run, "train", kind).median for kind in ("positive", "negative"))
            assert negative < bias.median < positive, run.config.describe()
        if run.config.optimizer == "adamw":
            assert abs(end - run.history["bias_mean"][0]) < 1.1 * frames.rates_sum(run)


def test_uniform_accuracy_is_what_bce_gains(built):
    """The table's one large effect, paired by seed: with DA1, BCE's uniform accuracy is higher for every seed."""
    table = frames.differences(runs_of("accuracy", built[0]), ["test_uniform_accuracy"])
    for row in table[table["augmentation"] == "da1"].itertuples():
        assert (np.asarray(row.each) > 0.02).all() and row.difference.n == 5


@pytest.mark.parametrize("name", [name for name in catalog.CHAPTERS if name not in (*catalog.WITHOUT_RUNS, "imbalance")])
def test_every_view_stands_a_part_of_its_runs(built, name):
    """Recorded runs come in pieces: one run, one loss, one pair, three seeds of one setting."""
    runs = runs_of(name, built[0])
    views = {"initial_bias": [claims.initial_bias, figures.initial_bias], "score_histograms": [claims.score_histograms, figures.score_histograms],
             "bias_decay": [claims.bias_decay, figures.bias_decay], "neural_collapse": [claims.neural_collapse, figures.neural_collapse],
             "accuracy": [claims.accuracy_table, claims.accuracy, figures.accuracy_differences]}[name]
    # As in the profile laptop: two networks side by side, the second with a part of the runs.
    other = [dataclasses.replace(r, config=dataclasses.replace(r.config, model="resnet8", dataset="mnist")) for r in runs[: len(runs) // 2]]
    parts = [runs + other, runs[:1], runs[1:2], runs[:2], [r for r in runs if r.config.loss == "ce"], [r for r in runs if r.config.loss == "bce"], runs[::3]]
    for part in parts:
        for view in views:
            shown = view(part)
            if isinstance(shown, str):
                assert "nan" not in shown and len(shown) > 50
                assert ("ResNet8 on MNIST" in shown) == (part is parts[0])
            else:
                plt.close(shown)


def test_another_profiles_figures_are_shown_once(built, monkeypatch):
    """A figure left open would be drawn a second time at the end of its cell."""
    shown = []
    monkeypatch.setattr("bcebook.book.notebook.display", shown.append)
    plt.close("all")
    Chapter("neural_collapse", "laptop", "cpu", str(built[0])).show_others(figures.neural_collapse, claims.neural_collapse)
    assert sum(isinstance(each, plt.Figure) for each in shown) == 1 and plt.get_fignums() == []
    assert "20 of 20 runs" in shown[0].data and "none of its 108 runs" in shown[-1].data


class Page(HTMLParser):
    def __init__(self, path: Path):
        super().__init__()
        self.images, self.loaded, self.text = [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        if tag in ("script", "img", "iframe") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and "stylesheet" in attributes.get("rel", ""):
            self.loaded.append(attributes["href"])

    def handle_data(self, data):
        self.text += data


def test_the_html_holds_the_figures_with_alternative_text_and_loads_nothing_from_elsewhere(built):
    html = built[1] / "html"
    pages = {name: Page(html / f"{name}.html") for name in [*catalog.CHAPTERS, "index", "how_to_read", "bibliography"]}
    for name in catalog.CHAPTERS:
        figures = [image for image in pages[name].images if image["src"].startswith("_images/")]
        assert len(figures) >= 1 and all(len(image.get("alt", "")) > 80 for image in figures)
        for image in figures:
            assert "<svg" in (html / image["src"]).read_text()
        assert "What we see" in pages[name].text
        assert ("none: computed from formulas" if name in catalog.WITHOUT_RUNS else "quick: the 8x8 digits") in pages[name].text
        assert str(built[0]) not in (html / f"{name}.html").read_text()  # no path of the machine that built it
        assert "|---" not in pages[name].text and "nan" not in re.findall(r"\bnan\b", pages[name].text)
    for name, page in pages.items():
        assert page.loaded and not [url for url in page.loaded if "//" in url], name
    assert (html / "_static" / "mathjax" / "tex-chtml.js").exists()
    assert any("mathjax" in url for url in pages["initial_bias"].loaded)


def test_papermill_ran_every_cell_of_every_notebook(built):
    for name in catalog.CHAPTERS:
        notebook = nbformat.read(built[1] / "notebooks" / "quick" / f"{name}.ipynb", 4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
        assert not [o for cell in code for o in cell.outputs if o.output_type in ("error", "stream")]


def test_a_second_build_does_nothing_again(built):
    data, out = built
    state = lambda: {p: p.stat().st_mtime_ns for folder in (data, out / "html", out / "notebooks") for p in folder.rglob("*") if p.is_file()}  # noqa: E731
    before = state()
    done = subprocess.run([*PROGRAM, "build", "--data", data, "--out", out], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("up to date") == len(catalog.CHAPTERS) + 1
    assert state() == before


def test_a_failing_notebook_is_named_and_the_last_good_html_stays(built, tmp_path, monkeypatch, capsys):
    data, out = built
    mine = tmp_path / "out"
    shutil.copytree(out, mine)
    book = tmp_path / "book"
    shutil.copytree(BOOK, book, ignore=shutil.ignore_patterns("_build"))
    for name, cell in (("accuracy", "raise KeyError('a planted fault')"), ("score_histograms", "figures.no_such_figure(runs)")):
        with open(book / f"{name}.py", "a") as file:
            file.write(f"\n# %%\n{cell}\n")
    with open(book / "initial_bias.py", "a") as file:
        file.write("\n# %% [markdown]\n# A sentence that was added.\n")
    monkeypatch.setattr(build, "BOOK", book)
    shutil.rmtree(mine / "notebooks" / "quick")  # accuracy keeps its last good page, score_histograms never had one
    shutil.copytree(out / "notebooks" / "quick", mine / "notebooks" / "quick", ignore=shutil.ignore_patterns("score_histograms*"))
    assert build.build("quick", "cpu", data, out=mine) == 1
    said = capsys.readouterr().out
    assert re.search(r"accuracy: FAILED in cell \d+ \(raise KeyError\('a planted fault'\)\): KeyError: 'a planted fault'", said)
    assert "score_histograms: FAILED" in said and "no_such_figure" in said
    pages = {name: (mine / "html" / f"{name}.html").read_text() for name in catalog.CHAPTERS}
    assert "A sentence that was added." in pages["initial_bias"]  # the good chapter was built
    assert "a planted fault" in pages["accuracy"] and "fig-accuracy-differences" in pages["accuracy"]  # warned, last good page kept
    assert "never been executed" in pages["score_histograms"]
    # Sphinx itself failing, on a chapter that is all right, leaves the HTML alone.
    (book / "index.md").write_text("# Broken\n\n{doc}`no_such_page`\n")
    index = (mine / "html" / "index.html").read_bytes()
    assert build.render("quick", mine, {}) is False
    assert (mine / "html" / "index.html").read_bytes() == index and "untouched" in capsys.readouterr().out


def test_a_chapter_trains_what_it_lacks_when_it_is_run_by_hand(built, tmp_path):
    """As in JupyterLab: a notebook alone, with its own parameters, in a data folder that lacks one of its runs."""
    configs, data = catalog.configs("score_histograms", "quick", (0,)), tmp_path / "data"
    for config in configs[1:]:
        shutil.copytree(built[0] / "runs" / config.key, data / "runs" / config.key)
    nbformat.write(jupytext.read(BOOK / "score_histograms.py"), tmp_path / "in.ipynb")
    papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", {"data_dir": str(data), "seeds": [0]},
                               kernel_name="python3", progress_bar=False, cwd=str(tmp_path))
    store = open_store(data)
    assert [store.state(config) for config in configs] == ["trained"] * 4
    # Trained twice on one machine, by the build and by the notebook: the same to the last bit.
    ours, theirs = store.find(configs[0]), open_store(built[0]).find(configs[0])
    assert repr((ours.history, ours.final, ours.scores)) == repr((theirs.history, theirs.final, theirs.scores))
    outputs = json.dumps(nbformat.read(tmp_path / "out.ipynb", 4))
    assert "4 of 4, seeds 0" in outputs and "image/svg+xml" in outputs
