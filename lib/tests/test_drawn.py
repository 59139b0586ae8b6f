"""A figure's numbers, read from the drawn figure: every kind of thing the book draws, by hand."""

import csv
import io

import matplotlib.pyplot as plt
import numpy as np
import pytest

from bcebook.report import drawn


def rows(figure) -> list[dict]:
    table = list(csv.DictReader(io.StringIO(drawn.as_csv(figure))))
    assert not table or tuple(table[0]) == drawn.COLUMNS
    return table


def points(table: list[dict]) -> list[tuple]:
    return [tuple(float(row[name]) if row[name] else None for name in ("x", "y")) for row in table]


@pytest.fixture
def axes():
    figure, axes = plt.subplots(1, 2)
    yield axes
    plt.close(figure)


def test_curves_of_every_panel_are_told_by_panel_label_and_colour(axes):
    axes[0].set(title="a\nb", xlabel="epoch", ylabel="NC1")
    axes[0].plot([1, 2], [0.5, 1e-9], color="#0072B2", label="CE")
    axes[1].plot([3, 4], [np.nan, 7], color="#D55E00")
    table = rows(axes[0].figure)
    assert points(table) == [(1, 0.5), (2, 1e-9), (3, None), (4, 7)]
    assert [row["panel"] for row in table] == ["1", "1", "2", "2"]
    assert (table[0]["title"], table[0]["x_axis"], table[0]["y_axis"]) == ("a b", "epoch", "NC1")
    assert (table[0]["label"], table[0]["colour"], table[2]["label"]) == ("CE", "#0072b2", "")  # no "_child0"


def test_scatters_areas_bars_cells_and_boxes_have_their_corners_and_values(axes):
    axes[0].scatter([1, 2], [3, 4], c=[10, 20])
    axes[0].fill_between([0, 1], [0, 0], [2, 2])
    axes[0].bar([5], [6], width=1)
    axes[0].pcolormesh([0, 2, 4], [0, 2], [[7, 8]])
    table = rows(axes[0].figure)
    kinds = {row["drawn_as"]: [r for r in table if r["drawn_as"] == row["drawn_as"]] for row in table}
    assert points(kinds["PathCollection"]) == [(1, 3), (2, 4)]
    assert [float(row["value"]) for row in kinds["PathCollection"]] == [10, 20]
    area = next(found for name, found in kinds.items() if "Fill" in name or "Poly" in name)
    assert {(0, 0), (1, 0), (0, 2), (1, 2)} <= set(points(area))
    assert points(kinds["Rectangle"]) == [(4.5, 0), (5.5, 6)]
    assert points(kinds["QuadMesh"]) == [(1, 1), (3, 1)] and [float(row["value"]) for row in kinds["QuadMesh"]] == [7, 8]


def test_of_a_fine_mesh_every_so_many_th_cell_is_written_with_its_own_value(axes):
    x, y = np.meshgrid(np.arange(130), np.arange(40))
    axes[0].pcolormesh(x, y, x + 1000 * y, shading="nearest")
    axes[1].pcolormesh(x, y, x + 1000 * y, shading="gouraud")  # coloured at the corners, not in cells
    for panel in "12":
        found = [row for row in rows(axes[0].figure) if row["panel"] == panel]
        assert points(found) == [(x, y) for y in range(0, 40, 3) for x in range(0, 130, 3)]
        assert [float(row["value"]) for row in found] == [x + 1000 * y for x, y in points(found)]


def test_numbers_as_matplotlib_sets_them_are_no_words(axes):
    axes[0].loglog([1e-5, 1e-3], [1, 100])
    axes[0].figure.canvas.draw()
    assert {row["x_word"] for row in rows(axes[0].figure)} == {""}


def test_steps_are_the_counts_of_a_histogram(axes):
    counts, edges = np.histogram(np.random.default_rng(0).normal(size=100), 5)
    axes[0].stairs(counts, edges)
    found = points(rows(axes[0].figure))
    assert {y for _, y in found} >= set(counts.astype(float))
    assert np.allclose(sorted({x for x, _ in found}), edges, rtol=1e-4)  # five digits are written


def test_what_belongs_to_the_frame_has_no_number_and_hidden_things_are_left_out(axes):
    axes[0].axhline(3)  # from edge to edge: only its height is data
    axes[0].plot([1], [1])[0].set_visible(False)
    axes[0].text(1, 1, "no data")
    assert points(rows(axes[0].figure)) == [(None, 3), (None, 3)]


def test_words_on_an_axis_are_told_and_numbers_are_not(axes):
    axes[0].plot([1.2, 9], [0.1, 0.9], "o")
    axes[0].set_xticks([0, 1], ["CE", "BCE"])
    table = rows(axes[0].figure)
    assert [(row["x_word"], row["y_word"]) for row in table] == [("BCE", ""), ("", "")]
