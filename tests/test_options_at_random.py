"""Options drawn at random: a few of the cases that ``fuzz_options.py`` tries by the thousand."""

import fuzz_options
import pytest


@pytest.mark.parametrize("number", [*range(24), *(pytest.param(n, marks=pytest.mark.long) for n in range(24, 400))])
def test_any_options_give_finite_answers_or_an_error_of_ours(number):
    call, wrong, _ = fuzz_options.faults(number)
    assert not wrong, f"{call}: {wrong[0]}"


def test_a_wrong_answer_is_found(monkeypatch):
    kind = fuzz_options.KINDS[0]
    scores = kind.score_samples
    monkeypatch.setattr(kind, "score_samples", lambda self, X: scores(self, X) * float("nan"))
    monkeypatch.setattr(fuzz_options, "KINDS", (kind,))
    monkeypatch.setattr(fuzz_options, "JOURNEYS", (fuzz_options.plain,))
    found = [fuzz_options.faults(number) for number in range(6)]
    assert sum(any("score_samples is not finite" in one for one in wrong) for _, wrong, _ in found) >= 3
