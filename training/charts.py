"""The report's drawings, as SVG that stands inside the page."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from shared.cards import Interval
from training.finished import Epoch
from training.metrics import Array

BINS = 15  # as the calibration error's
LOWER_IS_BETTER = frozenset({"loss", "calibration_error"})
NOT_FIGURES = frozenset({"epoch", "loss", "learning_rate", "images_per_s"})
BLUE, ORANGE, GREY, LIGHT = "#1f5fa8", "#c4561a", "#5b6570", "#b8c4d0"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: they can be searched, and follow the page's font
    "svg.hashsalt": "medq",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": "#22272e",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e8ec",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Figure, list[Markup]]]:
    """A figure of inches, and the list that its SVG is put into at the end."""
    made: list[Markup] = []
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, made
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    made.append(Markup(out.getvalue()[out.getvalue().index("<svg") :]))


def curves(history: Sequence[Epoch], folds: Sequence[Sequence[Epoch]], kept: int) -> Markup:
    """Loss, figures and learning rate by epoch; of folds thin lines behind. A line marks the kept epoch."""
    names = [name for name in history[-1] if name not in NOT_FIGURES]
    rising = [name for name in names if name not in LOWER_IS_BETTER]
    panels = [["loss"], rising, [name for name in names if name in LOWER_IS_BETTER], ["learning_rate"]]
    panels = [panel for panel in panels if panel]
    with _drawing(3.3 * len(panels), 2.9) as (figure, made):
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            for number, name in enumerate(panel):
                for fold in folds:
                    _line(axes, fold, name, color=f"C{number}", alpha=0.35, linewidth=0.8)
                _line(axes, history, name, color=f"C{number}", marker=".", label=plain(name))
            axes.axvline(kept, color=GREY, linestyle=":", linewidth=1)
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(panel) > 1:
                axes.legend(fontsize=8, ncols=2, loc="upper left", bbox_to_anchor=(-0.05, -0.2))
            else:
                axes.set_title(plain(panel[0]), fontsize=9)
    return made[0]


def _line(axes: Axes, history: Sequence[Epoch], name: str, **style: object) -> None:
    points = [(epoch["epoch"], epoch[name]) for epoch in history if epoch.get(name) is not None]
    axes.plot([x for x, _ in points], [y for _, y in points], **style)  # type: ignore[arg-type]


def reliability(confidence: Array, right: NDArray[np.bool_]) -> Markup:
    """How often the top label is right by how sure it was, with 95 % intervals, over how many pictures.

    Shapes: (N,) twice
    Source: Wilson 1927 for the intervals, which hold for few pictures too
    """
    which = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    count = np.bincount(which, minlength=BINS)
    centre = (np.arange(BINS) + 0.5) / BINS
    full = count > 0
    share = np.bincount(which, right, BINS)[full] / count[full]
    low, high = wilson(share, count[full])
    with _drawing(4.6, 4.2) as (figure, made):
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        top.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        top.bar(centre[full], share, width=0.92 / BINS, color=LIGHT)
        spread = np.abs(np.stack([share - low, high - share]))
        top.errorbar(centre[full], share, spread, fmt="o", color=BLUE, markersize=3.5, linewidth=1)
        top.set(ylabel="share that is right", ylim=(0, 1.02), xlim=(0, 1))
        bottom.bar(centre, count, width=0.92 / BINS, color=GREY)
        bottom.set(xlabel="probability of the top label", ylabel="pictures")
    return made[0]


def wilson(share: Array, count: NDArray[np.int64]) -> tuple[Array, Array]:
    """The 95 % interval of a share of `count` pictures."""
    z = 1.959963984540054  # of the normal distribution
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - half, middle + half


def dots(rows: Sequence[tuple[str, Sequence[tuple[str, Interval | None]]]]) -> Markup:
    """Figures with their intervals, one line a label, one colour a figure."""
    figures = [name for name, _ in rows[0][1]]
    with _drawing(6.2, 0.9 + 0.32 * len(rows)) as (figure, made):
        axes = figure.subplots()
        for number, name in enumerate(figures):
            known = [(place, row[1][number][1]) for place, row in enumerate(rows) if row[1][number][1]]
            values = [(place, one) for place, one in known if one]
            shift = 0.13 * (number - (len(figures) - 1) / 2)
            axes.errorbar(
                [one.value for _, one in values],
                [place + shift for place, _ in values],
                xerr=np.abs([[x.value - x.low for _, x in values], [x.high - x.value for _, x in values]]),
                fmt="o",
                markersize=4,
                linewidth=1.2,
                color=(BLUE, ORANGE, GREY)[number % 3],
                label=name,
            )
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(right=1.005)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return made[0]


def spread(values: Sequence[Array], names: Sequence[str], what: str) -> Markup:
    """How a figure lies over pictures: box from quartile to quartile, whiskers over 90 % of them, the rest dots."""
    known = [row[~np.isnan(row)] for row in values]
    with _drawing(6.2, 0.8 + 0.42 * len(known)) as (figure, made):
        axes = figure.subplots()
        axes.boxplot(
            known,
            orientation="horizontal",
            whis=(5, 95),
            widths=0.5,
            medianprops={"color": ORANGE, "linewidth": 1.5},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": GREY},
        )
        axes.set_yticks(range(1, len(names) + 1), names)
        axes.invert_yaxis()
        axes.set_xlabel(what)
    return made[0]


def plain(name: str) -> str:
    """A figure's name as people write it, such as macro AUC."""
    spelt = {"auc": "AUC", "f1": "F1", "iou": "IoU", "dice": "Dice", "jaccard": "Jaccard"}
    return " ".join(spelt.get(word, word) for word in name.split("_"))
