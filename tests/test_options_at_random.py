"""Options drawn at random: a few of the cases that ``fuzz_options.py`` tries by the thousand."""

import fuzz_options
import pytest


@pytest.mark.parametrize("number", [*range(24), *(pytest.param(n, marks=pytest.mark.long) for n in range(24, 400))])
def test_any_options_give_finite_answers_or_an_error_of_ours(number):
    call, wrong, _ = fuzz_options.faults(number)
    assert not wrong, f"{call}: {wrong[0]}"


def missing(kind, name):
    """A method whose answers are missing."""
    right = getattr(kind, name)
    return lambda self, X: right(self, X) * float("nan")


def worse(kind, name):
    """A fit that keeps weights which are worse than its start."""
    right = getattr(kind, name)

    def fit(self, X):
        right(self, X)
        self.best_objective_ += abs(self.best_objective_) + 1
        return self

    return fit


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("score_samples", missing, "score_samples is not finite"),
        ("reconstruct", missing, "reconstruct is not finite"),
        ("fit", worse, "worse than the start"),
    ],
)
def test_a_wrong_answer_is_found(name, broken, message, monkeypatch):
    kind = fuzz_options.KINDS[0]
    monkeypatch.setattr(kind, name, broken(kind, name))
    monkeypatch.setattr(fuzz_options, "KINDS", (kind,))
    monkeypatch.setattr(fuzz_options, "JOURNEYS", (fuzz_options.plain,))
    found = [fuzz_options.faults(number) for number in range(6)]
    assert sum(any(message in one for one in wrong) for _, wrong, _ in found) >= 3
