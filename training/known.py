"""What tables tell of patients, checked; and a classifier's figures with it, beside those of pictures alone."""

from collections.abc import Iterable, Sequence

from shared import cards
from shared.cards import ModelCard
from shared.catalog import Pipeline
from shared.clinical import Known, evidence, informed
from training.classify import labels_of
from training.metrics import Array, card_metrics, paired_difference
from training.samples import BadData, Sample, Told

OLDEST = 120  # years; as the API has it
SEXES = ("female", "male")
UNKNOWN = ("", "unknown")


def known_of(told: Iterable[tuple[str, Told]], pipeline: Pipeline) -> list[Known]:
    """What is known of each patient. Empty and `unknown` are unknown.

    Raises: BadData listing each value that a job would be refused for, under the name beside it
    """
    faults: list[str] = []
    found = [_known(name, one, pipeline, faults) for name, one in told]
    if faults:
        raise BadData(faults)
    return found


def known_of_samples(samples: Sequence[Sample], pipeline: Pipeline) -> list[Known]:
    """Raises: BadData, as known_of"""
    return known_of(((sample.id, sample.told) for sample in samples), pipeline)


def _known(name: str, told: Told, pipeline: Pipeline, faults: list[str]) -> Known:
    age, sex, site = None, told.sex.strip().lower(), told.site.strip().lower()
    if told.age.strip().lower() not in UNKNOWN:
        age = _age(told.age)
        if age is None:
            faults.append(f"{name}: age {told.age!r} is no number from 0 to {OLDEST}")
    if sex not in (*SEXES, *UNKNOWN):
        faults.append(f"{name}: sex {told.sex!r} is not one of {', '.join(SEXES)}, unknown")
    if site not in (*pipeline.sites, *UNKNOWN):
        faults.append(f"{name}: site {told.site!r} is not one of {', '.join(pipeline.sites)}")
    return Known(age, sex if sex in SEXES else None, None if site in UNKNOWN else site)


def _age(text: str) -> float | None:
    try:
        years = float(text)
    except ValueError:
        return None
    return years if 0 <= years <= OLDEST else None


def with_known(shares: Array, known: Sequence[Known], clinical: cards.Clinical) -> Array:
    """Shapes: shares (N, labels) of pictures alone -> (N, labels)"""
    return informed(shares, evidence(known, clinical))


def compared(
    card: ModelCard,
    clinical: cards.Clinical,
    split: str,
    samples: Sequence[Sample],
    shares: Array,
    known: Sequence[Known],
) -> cards.Clinical:
    """The same evidence with a split's figures, and how far they are from those of pictures alone.

    Shapes: shares (N, labels) of pictures alone
    """
    groups, truth = [sample.group for sample in samples], labels_of(samples)
    after = with_known(shares, known, clinical)
    return clinical.model_copy(
        update={
            "metrics": card_metrics(split, card.labels, groups, truth, after, card.thresholds),
            "difference": paired_difference(groups, truth, shares, after),
        }
    )
