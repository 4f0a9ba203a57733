"""What is declared to be counted."""

from shared.figures import Figures, field_of


def test_every_figure_has_its_children_from_the_start() -> None:
    """So that there are as many as are declared, and none that a client could add."""
    figures = Figures()
    values = figures.values()
    assert 'medq_stage_seconds_count{"outcome": "advance", "stage": "vision"}' in values
    assert 'medq_llm_tokens_total{"kind": "output", "provider": "second"}' in values
    assert len(values) < 600
    assert set(values.values()) == {0.0}
    families = list(figures.registry.collect())
    assert {field_of(sample) for family in families for sample in family.samples} >= set(values)
