"""One page about a run: curves, figures, confusion, reliability, worst cases, and how it compares with other runs.

python -m training.report --run runs/skin --data ../shared/data/skin --with runs/other
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from shared.cards import Interval
from shared.catalog import PIPELINES
from shared.errors import CardMismatch
from training import charts
from training.charts import plain
from training.compare import Leak, columns, difference, leaks_of, network_of, split_of, verdict
from training.config import shipped
from training.evaluate import in_words
from training.finished import Finished, kept_epoch, read_run
from training.samples import BadData, Sample
from training.sections import NOTE, Section, Table, figures_of
from training.worst import misdrawn, misgraded, mistakes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.report", description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="folder of the run, such as runs/skin")
    parser.add_argument("--data", required=True, type=Path, help="the data set that it was trained on")
    parser.add_argument(
        "--with", dest="others", nargs="*", type=Path, default=[], help="runs to compare with"
    )
    parser.add_argument("--model", type=Path, help="folder of the weights; default: as training writes them")
    parser.add_argument("-o", "--out", type=Path, help="the page; default: report.html in the run's folder")
    options = parser.parse_args(arguments)
    out = options.out or options.run / "report.html"
    try:
        out.write_text(page(options.run, options.data, options.others, options.model), encoding="utf-8")
    except CardMismatch as error:
        sys.exit(f"Cannot report on {options.run}: {error.detail} Name the folder of its weights: --model")
    except BadData as error:
        sys.exit(f"Cannot report on {options.run}: {error}")
    print(out)


def page(folder: Path, data: Path, others: Sequence[Path] = (), model: Path | None = None) -> str:
    """The page as HTML that needs nothing else.

    Raises: BadData if a folder is no finished run, or the data is not what it was measured on; CardMismatch if
        the weights, which draw the worst masks, are not this run's
    """
    run, compared = read_run(folder), [read_run(other) for other in others]
    if strange := [other for other in compared if other.config.pipeline != run.config.pipeline]:
        raise BadData(f"{strange[0].folder} is a run of another pipeline.")
    samples = run.samples(data)
    sections = [
        figures_of(run, samples),
        _training(run),
        *_worst(run, samples, model or shipped(PIPELINES[run.config.pipeline])),
        *(_comparison(run, compared, samples, data) if compared else ()),
    ]
    return _rendered(run, sections)


def _rendered(run: Finished, sections: Sequence[Section]) -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    recipe = run.config.model_dump(mode="json", exclude={"data", "licence"})
    return templates.get_template("report.html").render(
        title=PIPELINES[run.config.pipeline].title.en,
        run=run,
        facts=_facts(run),
        sections=sections,
        recipe=[(name, str(value)) for name, value in recipe.items()],
    )


def _facts(run: Finished) -> list[tuple[str, str]]:
    trained, groups = run.card.training, len(set(run.groups))
    facts = [
        ("network", f"{network_of(run)}, {run.card.preprocess.size_px} px"),
        ("first weights", run.config.pretrained or "random"),
        ("version", run.card.version),
        ("measured on", f"{run.split}: {len(run.ids)} pictures of {groups} groups"),
        ("dealt", split_of(run)),
        ("epochs", f"{len(run.history)}, kept: {kept_epoch(run.config, run.history)}"),
        ("trained for", f"{trained['minutes']} min"),
        ("temperature", f"{run.card.temperature:g}"),
    ]
    if run.leaked:
        facts.append(("leaked", f"{run.leaked:.0%} of these pictures have a sibling in train"))
    return facts


def _training(run: Finished) -> Section:
    drawn = charts.curves(run.history, run.folds, kept_epoch(run.config, run.history))
    note = (
        "Figures are of val, by epoch, before calibration of thresholds. The dotted line is the kept epoch."
    )
    if run.folds:
        note = (
            "Strong: the network that is shipped, on pictures that it saw. "
            "Thin: the folds' networks, on those that they did not see."
        )
    return Section("Training", note, charts=[("Loss, figures and learning rate by epoch", drawn)])


def _worst(run: Finished, samples: Sequence[Sample], model: Path) -> list[Section]:
    if run.head.kind == "segment":
        galleries = misdrawn(run, samples, model)
    else:
        galleries = (mistakes if run.head.kind == "classify" else misgraded)(run, samples)
    return [Section("Worst cases", galleries=galleries)] if galleries else []


def _comparison(
    run: Finished, others: Sequence[Finished], samples: Sequence[Sample], data: Path
) -> list[Section]:
    runs = [run, *others]
    sections = [Section("Compared with other runs", NOTE, tables=[_beside(runs)])]
    changes = [(other, change) for other in others if (change := difference(run, other, samples))]
    if changes:
        sections.append(_paired(run, changes))
    if leaks := leaks_of(runs, data):
        sections.append(_leaking(leaks))
    return sections


def _beside(runs: Sequence[Finished]) -> Table:
    """A column for each run."""
    facts = [
        ("network", [network_of(run) for run in runs]),
        ("first weights", [run.config.pretrained or "random" for run in runs]),
        ("pixels", [str(run.card.preprocess.size_px) for run in runs]),
        ("dealt", [split_of(run) for run in runs]),
        ("measured on", [f"{len(run.ids)} pictures, {run.split}" for run in runs]),
        ("of which leaked", [f"{run.leaked:.0%}" for run in runs]),
        ("minutes", [str(run.card.training["minutes"]) for run in runs]),
    ]
    found = [columns(run) for run in runs]
    facts += [(plain(name), [in_words(one[name]) for one in found]) for name in found[0]]
    return Table(("run", *(run.name for run in runs)), [(name, *cells) for name, cells in facts])


def _leaking(leaks: Sequence[Leak]) -> Section:
    note = (
        "The same network, dealt by picture and dealt by group. The difference is not skill: siblings of what is "
        "measured stand in train, which helps only where a group has several pictures. Pictures without a sibling in "
        "train are no fair sample of a leaky split: most of their groups have but one picture, and those may be easier."
    )
    rows = [
        (
            leak.network,
            plain(leak.figure),
            leak.pictures,
            in_words(leak.leaky),
            in_words(leak.grouped),
            f"{leak.leaky.value - leak.grouped.value:+.3f}" if leak.alike else "",
        )
        for leak in leaks
    ]
    head = ("network", "figure", "pictures", "leaky", "grouped", "leaky - grouped")
    return Section("What leaking is worth", note, tables=[Table(head, rows)])


def _paired(run: Finished, changes: Sequence[tuple[Finished, dict[str, Interval]]]) -> Section:
    rows = [
        (other.name, plain(name), in_words(change), verdict(name, change))
        for other, found in changes
        for name, change in found.items()
    ]
    note = (
        f"The other run minus {run.name}, by paired bootstrap over groups. "
        "A difference is shown where its interval leaves out 0."
    )
    head = ("run", "figure", "difference", f"than {run.name}")
    return Section("Differences on the same pictures", note, tables=[Table(head, rows)])


if __name__ == "__main__":
    main()
