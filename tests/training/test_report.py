"""The page about a run: what it says is the run's own, and it needs nothing from outside."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from shared.cards import Clinical, Interval, load_card
from shared.catalog import PIPELINES
from tests.training.conftest import drawn
from tests.training.test_pipelines import graded_tree
from training import report
from training.charts import wilson
from training.compare import by_part, difference, verdict
from training.config import TrainConfig
from training.finished import Finished, kept_epoch, read_run
from training.samples import BadData
from training.sections import figures_of
from training.train import train
from training.worst import fitted, misdrawn, misgraded, mistakes, outlined

Tree = Callable[..., Path]
HOSTILE = '<img src="http://example.org/x" onerror="alert(1)">'


class Addresses(HTMLParser):
    """Every address of a page, and whatever could run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.scripts.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                self.found.append(value or "")
            if name.startswith("on"):
                self.scripts.append(name)


def alone(text: str) -> bool:
    seen = Addresses(text)
    outside = [one for one in seen.found if not one.startswith(("data:image/", "#"))]
    styles = [one for one in re.findall(r"url\(([^)]*)\)", text) if not one.startswith("#")]
    return not (outside or styles or seen.scripts or "@import" in text)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab's own table of skin pictures, some of whose ids are markup; the labels are hard to tell apart."""
    folder = tmp_path / "lab"
    folder.mkdir()
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "id", "group", "label", "split"])
        for number in range(7 * 24):
            label = PIPELINES["skin"].labels[number % 7]
            shown = label.code if number % 5 else "nv"  # every fifth looks like nv
            (folder / f"{number}.jpg").write_bytes(drawn(shown, number, (60, 45)))
            part = ("train", "train", "val", "test")[number // 7 % 4]
            writer.writerow([f"{number}.jpg", f"{HOSTILE}{number}", f"group {number}", label.code, part])
    return folder


def test_a_classifiers_page_shows_its_figures_and_its_surest_mistakes(
    lab: Path, config: TrainConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "one"
    card = train(config, lab, tmp_path / "out", folder)
    leaky = config.model_copy(update={"dealt": "fifth_by_picture", "epochs": 1})
    train(leaky, lab, tmp_path / "out-leaky", tmp_path / "runs" / "leaky")
    out = tmp_path / "page.html"
    report.main(
        ["--run", str(folder), "--data", str(lab), "--with", str(tmp_path / "runs" / "leaky"), "-o", str(out)]
    )
    text = out.read_text(encoding="utf-8")

    assert alone(text)
    assert "default-src 'none'" in text
    assert HOSTILE not in text
    assert "&lt;img src=" in text
    assert card.metrics
    assert f"{card.metrics.accuracy.value:.3f} ({card.metrics.accuracy.low:.3f} to" in text
    cells = re.findall(r'<td style="background[^>]*>(\d+)<small>', text)
    assert [int(cell) for cell in cells] == [count for row in card.metrics.confusion for count in row]
    assert text.count("<svg") == 3
    assert "What leaking is worth" in text
    assert "whose group has one" in text

    run = read_run(folder)
    samples = run.samples(lab)
    surest, *missed = mistakes(run, samples)
    truth = np.array([sample.label for sample in samples])
    top, sure = run.outcome.argmax(axis=1), run.outcome.max(axis=1)
    wrong = sorted((-sure[row], samples[row].id) for row in range(len(samples)) if top[row] != truth[row])
    assert [shown.id for shown in surest.shown] == [name for _, name in wrong[: len(surest.shown)]]
    assert len(surest.shown) == min(12, len(wrong)) > 0
    mel = PIPELINES["skin"].labels.index(PIPELINES["skin"].label("mel"))
    below = (truth == mel) & (run.outcome[:, mel] < card.thresholds["mel"])
    assert sum(len(gallery.shown) for gallery in missed) == below.sum()

    with pytest.raises(BadData, match="not what"):
        run.samples(other_lab(lab, tmp_path / "other"))
    with pytest.raises(SystemExit, match="no finished run"):
        report.main(["--run", str(tmp_path), "--data", str(lab)])
    pairs(run, lab)
    parted(run, lab)
    with_clinical(run, lab)


def other_lab(lab: Path, folder: Path) -> Path:
    """The same pictures, but one lesion has another name."""
    folder.mkdir()
    for path in lab.iterdir():
        text = path.read_bytes()
        (folder / path.name).write_bytes(
            text.replace(b"group 24,", b"group 3,") if path.suffix == ".csv" else text
        )
    return folder


def pairs(run: Finished, lab: Path) -> None:
    """A difference is certain where it is one, and not where there is none."""
    samples = run.samples(lab)
    same = difference(run, run, samples)
    assert same
    assert {(one.value, one.low, one.high) for one in same.values()} == {(0.0, 0.0, 0.0)}
    assert {verdict(name, one) for name, one in same.items()} == {"not shown"}
    perfect = np.eye(7)[[sample.label for sample in samples]]
    back = replace(run, ids=run.ids[::-1], groups=run.groups[::-1], outcome=perfect[::-1])
    better = difference(run, back, samples)
    assert better
    assert better["accuracy"].value == pytest.approx(1 - run.card.metrics.accuracy.value, abs=1e-3)  # type: ignore[union-attr]
    assert verdict("accuracy", better["accuracy"]) == "better"
    assert difference(run, replace(run, ids=run.ids[:-1]), samples) is None


def parted(run: Finished, lab: Path) -> None:
    """Each part is measured on its own pictures, and one that is empty is left out."""
    samples = run.samples(lab)
    assert not run.several.any(), "each of the lab's groups has one picture"
    right = run.outcome.argmax(axis=1) == np.array([sample.label for sample in samples])
    several, sibling = np.arange(len(samples)) % 3 == 0, np.arange(len(samples)) % 2 == 0
    found = by_part(replace(run, several=several, sibling=sibling), samples)
    expected = [right.mean(), right[several].mean(), right[~several].mean(), right[~sibling].mean()]
    assert [one["accuracy"].value for one in found.values()] == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) == 4
    assert set(by_part(run, samples)) == {"all", "whose group has one", "without a sibling in train"}


def with_clinical(run: Finished, lab: Path) -> None:
    """What age, sex and site add stands in a table of its own, where the network was taught them."""
    samples = run.samples(lab)
    assert len(figures_of(run, samples).tables) == 2
    moved = Interval(value=0.021, low=0.011, high=0.034)
    clinical = Clinical(
        ages=(), age=(), sex={}, site={}, strength=1, metrics=run.card.metrics, difference={"accuracy": moved}
    )
    taught = replace(run, card=run.card.model_copy(update={"clinical": clinical}))
    assert ("0.021 (0.011 to 0.034)") in [row[3] for row in figures_of(taught, samples).tables[2].rows]


def test_smaller_is_better_for_the_calibration_error() -> None:
    lower = Interval(value=-0.02, low=-0.03, high=-0.01)
    assert verdict("calibration_error", lower) == "better"
    assert verdict("accuracy", lower) == "worse"


def test_a_segmenters_page_outlines_the_worst_masks(
    xrays: Callable[..., Path], segmenting: TrainConfig, tmp_path: Path
) -> None:
    data, folder = xrays(), tmp_path / "runs" / "chest"
    train(segmenting.model_copy(update={"epochs": 1}), data, tmp_path / "out", folder)
    text = report.page(folder, data)
    assert alone(text)
    assert "Worst masks" in text
    run = read_run(folder)
    samples = run.samples(data)
    (gallery,) = misdrawn(run, samples, tmp_path / "no weights are needed: each fold has its own")
    scores = np.nanmean(run.outcome[:, 0, 1:], axis=1)
    assert [shown.id for shown in gallery.shown] == [
        samples[n].id for n in np.argsort(scores, kind="stable")[:12]
    ]
    assert load_card(folder).metrics == run.card.metrics
    assert run.leaked == 0


def test_a_graders_page_has_a_matrix_for_each_condition(config: TrainConfig, tmp_path: Path) -> None:
    data, folder = graded_tree(tmp_path / "scalp"), tmp_path / "runs" / "scalp"
    for path in data.rglob("*.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | {"value_6": told["value_1"]}))
    graded = config.model_copy(update={"pipeline": "scalp", "mixup": 0.0, "epochs": 1})
    card = train(graded, data, tmp_path / "out", folder)
    text = report.page(folder, data, others=[folder])
    assert alone(text)
    assert text.count('class="matrix"') == 6
    cells = [int(cell) for cell in re.findall(r'<td style="background[^>]*>(\d+)<small>', text)]
    found = card.metrics.conditions.values()  # type: ignore[union-attr]
    assert cells == [count for condition in found for row in condition.confusion for count in row]
    run = read_run(folder)
    samples = run.samples(data)
    away = {
        sample.id: sum(abs(a - b) for a, b in zip(sample.grades, row.argmax(axis=1), strict=True))
        for sample, row in zip(samples, run.outcome, strict=True)
    }
    (gallery,) = misgraded(run, samples)
    assert [away[shown.id] for shown in gallery.shown] == sorted(away.values(), reverse=True)[
        : len(gallery.shown)
    ]


@pytest.mark.parametrize(("keep_best", "kept"), [(None, 3), ("macro_auc", 2)])
def test_the_kept_epoch_is_the_first_of_the_best(
    config: TrainConfig, keep_best: str | None, kept: int
) -> None:
    history = [{"epoch": n, "macro_auc": value} for n, value in ((1, 0.5), (2, 0.7), (3, 0.7))]
    assert kept_epoch(config.model_copy(update={"keep_best": keep_best}), history) == kept


def test_outlines_are_where_the_masks_end() -> None:
    head = PIPELINES["lesion"].heads[0]
    pixels = np.zeros((40, 400, 3), np.uint8)
    truth, found = np.zeros((40, 400), np.uint8), np.zeros((40, 400), np.uint8)
    truth[10:30, 50:150] = 1
    found[10:30, 250:350] = 1
    drawn_over = outlined(pixels, truth, found, head)
    assert drawn_over[20, 50].tolist() == [255, 255, 255]
    assert tuple(drawn_over[20, 250]) == head.labels[1].colour
    for column in (20, 100, 200, 300, 380):
        assert drawn_over[20, column].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("size", "shown"),
    [((30, 40), (300, 400)), ((150, 200), (300, 400)), ((900, 1200), (300, 400)), ((2000, 100), (400, 20))],
)
def test_the_longer_side_of_a_picture_is_shown_at_one_length(
    size: tuple[int, int], shown: tuple[int, int]
) -> None:
    assert fitted(np.zeros((*size, 3), np.uint8)).shape[:2] == shown


@pytest.mark.parametrize(("right", "count"), [(0, 3), (3, 3), (7, 40), (399, 400)])
def test_intervals_of_shares_are_wilsons(right: int, count: int) -> None:
    low, high = wilson(np.array([right / count]), np.array([count]))
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert (float(low[0]), float(high[0])) == pytest.approx((expected.low, expected.high), abs=1e-9)
