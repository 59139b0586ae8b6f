"""The tables of data/theory: the code makes their rows, a damaged one is refused, and pages depend on them."""

import dataclasses
import shutil

import pytest

from bcebook.book import digests
from bcebook.chapters import bias_saturates
from bcebook.paths import theory_tables
from bcebook.report import codes, orthogonal, tails

# Of each table some cheap rows beside those that every page computes: (table, settings).
ROWS = [(codes.TABLE, {"K": 5, "lambda_b": 0}), (codes.TABLE, {"loss": "bce", "K": 10, "d": 5}),
        (codes.TABLE, {"loss": "ce", "K": 8, "d": 3, "decay": 5e-7}),
        (codes.SHARED_TABLE, {"d": 3}), (codes.BOUND_TABLE, {"target": 0.12}),
        (tails.THRESHOLDS, {"case": "2 × 100, 4 × 5", "lambda_b": 0}),
        (tails.SIDES, {"case": "300, 200, 100, 2 × 2", "lambda_b": 0.01, "loss": "bce"}),
        (tails.LONG_TAILS, {"factor": 50, "loss": "ce"}), (bias_saturates.LOWER, {"multiple": 0.5}),
        (orthogonal.MINIMISED, {"draw": 11}), (orthogonal.MINIMISED, {"draw": 30})]
TABLES = list({id(table): table for table, _ in ROWS}.values())


def test_every_table_is_one_of_these_and_small():
    assert sorted(theory_tables().iterdir()) == sorted(table.path for table in TABLES)
    assert all(table.path.stat().st_size < 12_000 for table in TABLES)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_code_makes_the_rows(table):
    frame = table.frame  # compares the live rows
    assert len(frame) == len(table.settings) and 0 < len(table.live) < len(frame)
    for some in (some for of, some in ROWS if of is table):
        chosen = [at for at, settings in enumerate(table.settings)
                  if some.items() <= settings.items() and settings not in table.live]
        assert chosen
        for at in chosen:
            settings = table.settings[at]
            table.compare(frame.iloc[at].to_dict(), settings | table.compute(**settings))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """copy(**changes): the table of one dimension less, in a folder of its own, its rows computed at no cost."""
    shutil.copy(bias_saturates.LOWER.path, tmp_path)
    monkeypatch.setattr("bcebook.report.theory_tables.theory_tables", lambda: tmp_path)
    results = bias_saturates.LOWER.frame.set_index("multiple").to_dict("index")
    return lambda **changes: dataclasses.replace(
        bias_saturates.LOWER, **({"compute": lambda multiple: dict(results[multiple])} | changes))


def test_what_is_written_is_read(copy):
    table = copy()
    before = table.path.read_text()
    table.write()
    assert table.path.read_text().splitlines()[2:] == before.splitlines()[2:]
    assert copy().frame.equals(table.frame)


@pytest.mark.parametrize("damage", [lambda text: text[:-40], lambda text: text.replace("0.549", "0.548"),
                                    lambda text: "", lambda text: text.replace("13.9,", "13.8,")])
def test_a_damaged_table_is_refused(copy, damage):
    table = copy()
    table.path.write_text(damage(table.path.read_text()))
    refused = r"one_dimension_less\.csv .*; `python ci/theory_tables\.py` makes it again\.$"
    with pytest.raises(ValueError, match=refused):
        table.frame


def test_a_table_that_is_not_there_or_of_other_settings_is_refused(copy):
    with pytest.raises(ValueError, match="holds other settings than the 6 of this version"):
        copy(settings=bias_saturates.LOWER.settings[:6]).frame
    copy().path.unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        copy().frame


def test_a_row_that_the_page_computes_otherwise_is_refused(copy):
    off = copy().compute(1) | {"found": 0.4267}
    with pytest.raises(ValueError, match=r"says found = 0\.42677\d*, and 0\.4267 is computed here"):
        copy(compute=lambda multiple: off).frame


def test_pages_depend_on_the_tables(copy, monkeypatch, tmp_path):
    monkeypatch.setattr(digests, "theory_tables", lambda: tmp_path)
    before = digests.chapter_digest("bias_saturates", "quick", tmp_path / "data")
    assert digests.chapter_digest("bias_saturates", "quick", tmp_path / "data") == before
    copy().path.write_text(copy().path.read_text() + "\n")
    assert digests.chapter_digest("bias_saturates", "quick", tmp_path / "data") != before
