"""What a figure shows, as numbers: read from the drawn figure itself, so that their file cannot differ from it."""

import csv
import io
import math
from collections.abc import Iterator

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

MIME = "application/vnd.bcebook.drawn+csv"  # under which a notebook's output carries it beside the picture
# piece: the lines of one curve, area or box have the same; value: of a coloured cell or point. *_word: what the tick
# nearest to it says, where ticks are words.
COLUMNS = ("panel", "title", "x_axis", "y_axis", "drawn_as", "label", "colour", "piece", "x", "y", "x_word", "y_word",
           "value")
NEAR = 0.5  # ticks with words stand at distance 1
FINEST = 60  # rows and columns of a mesh at most; of a finer one every second, third ... is written
OUTLINE = 100  # points of one outline of an area at most, thinned likewise


def as_csv(figure: Figure) -> str:
    """The figure's data: a line a point of each curve, scatter, bar (two corners), area and box (their corners), in the
    units of its axes, a head of COLUMNS. Coordinates that belong to the frame, not to the data, are left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for panel, ax in enumerate(figure.axes, 1):
        title = " ".join(next(filter(None, map(ax.get_title, ("center", "left", "right"))), "").split())
        words = [_words(axis) for axis in (ax.xaxis, ax.yaxis)]
        for piece, artist in enumerate((*ax.lines, *ax.collections, *ax.patches), 1):
            if not artist.get_visible():
                continue
            head = (panel, title, ax.get_xlabel(), ax.get_ylabel(), type(artist).__name__, _label(artist),
                    _colour(artist), piece)
            for x, y, value in _points(artist, ax):
                writer.writerow((*head, _number(x), _number(y), _near(words[0], x), _near(words[1], y), _number(value)))
    return text.getvalue()


def bundle(figure: Figure, include=None, exclude=None) -> dict[str, str]:
    """For IPython, which asks what else a figure is but a picture."""
    return {MIME: as_csv(figure)}


def _points(artist: Artist, ax: Axes) -> Iterator[tuple[float, float, float]]:
    """(x, y, value) of each; NaN where there is none."""
    vertices, values, transform = _vertices(artist)
    if not len(vertices):
        return
    of_data = transform.contains_branch_separately(ax.transData)
    vertices = np.where(of_data, vertices, np.nan)
    for (x, y), value in zip(vertices.tolist(), values.tolist(), strict=True):  # plain numbers: maps have thousands
        if math.isfinite(x) or math.isfinite(y):
            yield x, y, value


def _vertices(artist: Artist) -> tuple[np.ndarray, np.ndarray, object]:
    """An artist's points (shape (n, 2)), the value of each, and the transform that puts them on the page."""
    if isinstance(artist, Line2D):
        points, transform = artist.get_xydata(), artist.get_transform()
    elif isinstance(artist, Rectangle):
        points, transform = artist.get_bbox().get_points(), artist.get_data_transform()
    elif isinstance(artist, Patch):
        points = artist.get_patch_transform().transform(artist.get_path().vertices)
        transform = artist.get_data_transform()
    elif isinstance(artist, QuadMesh):
        places, array, transform = artist.get_coordinates(), artist.get_array(), artist.get_transform()
        if array.size < len(places) * len(places[0]):  # of cells, and not of their corners (Gouraud shading)
            places = (places[:-1, :-1] + places[1:, 1:]) / 2
        step = -(-max(places.shape[:2]) // FINEST)
        values = np.reshape(array, places.shape[:2])[::step, ::step]
        return _filled(places[::step, ::step]).reshape(-1, 2), _filled(values).ravel(), transform
    elif isinstance(artist, PathCollection):
        points, transform = np.asarray(artist.get_offsets()), artist.get_offset_transform()
    elif isinstance(artist, Collection):
        paths = [path.vertices[::-(-len(path.vertices) // OUTLINE)] for path in artist.get_paths()
                 if len(path.vertices)]
        points = np.concatenate(paths) if paths else np.empty((0, 2))
        transform = artist.get_transform()
    else:
        points, transform = np.empty((0, 2)), artist.get_transform()
    points = _filled(points).reshape(-1, 2)
    values = artist.get_array() if isinstance(artist, Collection) else None
    values = np.empty(0) if values is None else _filled(values).ravel()
    return points, values if len(values) == len(points) else np.full(len(points), np.nan), transform


def _filled(values) -> np.ndarray:
    """As floats, with NaN for what is masked."""
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def _label(artist: Artist) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_") else label


def _colour(artist: Artist) -> str:
    """The one colour of an artist, "" where it has several or none."""
    if isinstance(artist, Line2D):
        return to_hex(artist.get_color())
    colours = np.atleast_2d(artist.get_facecolor())
    if not len(colours) or not colours[0][3]:
        colours = np.atleast_2d(artist.get_edgecolor())
    return to_hex(colours[0]) if len(colours) == 1 else ""


def _words(axis: Axis) -> list[tuple[float, str]]:
    """(place, word) of the ticks that say words; none where they say numbers."""
    ticks = [(place, label.get_text()) for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels())]
    words = [tick for tick in ticks if tick[1] and "mathdefault" not in tick[1]]  # that is a number of matplotlib's
    return words if any(char.isalpha() for _, word in words for char in word) else []


def _near(words: list[tuple[float, str]], place: float) -> str:
    if not words or not math.isfinite(place):
        return ""
    at, word = min(words, key=lambda tick: abs(tick[0] - place))
    return word if abs(at - place) <= NEAR else ""


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else ""
