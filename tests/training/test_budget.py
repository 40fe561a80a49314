"""Budgets of minutes, by a clock that the tests turn."""

import pytest

import hubkeras
from hubkeras.training import budget as budgets
from hubkeras.training.budget import Budget, Part


class Clock:
    """`time` of `budget`, which passes as it is told."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(budgets, "time", clock)
    return clock


def passed(clock, seconds, budget=None, part=None):
    if part is None:
        clock.now += seconds
        return
    with budget.measuring(part):
        clock.now += seconds


def ready(clock, minutes, began=None, **counts):
    """A budget of a run that has its head after 10 seconds."""
    budget = Budget(minutes, clock.now if began is None else began, **counts)
    for part, seconds in ((Part.FEATURES, 0.5), (Part.IMAGES, 6), (Part.HEAD, 3.5)):
        passed(clock, seconds, budget, part)
    return budget


def train(clock, budget, step, first=5.0):
    """Takes the steps that there is time for; returns the shares at which they began."""
    shares = []
    while (share := budget.share()) < 1:
        shares.append(share)
        seconds = step(len(shares)) if len(shares) > 1 else first
        passed(clock, seconds)
        budget.step_done(seconds)
    return shares


@pytest.mark.parametrize("slower", [1, 3])
def test_fine_tuning_ends_in_time_for_what_follows_however_fast_steps_are(slower, clock):
    began = clock.now
    budget = ready(clock, 2, batches=10)
    shares = train(clock, budget, lambda number: 0.2 if number < 50 else 0.2 * slower)
    assert clock.now - began + budget.after_tuning() == pytest.approx(120, abs=0.5)
    assert shares == sorted(shares)
    assert shares[0] == shares[1] == 0
    assert shares[-1] > 0.98


def test_what_follows_is_told_by_what_was_measured(clock):
    budget = ready(clock, 2, tested=50, files=1)
    assumed = budget.after_tuning()
    budget.step_done(9.0)  # twice as slow as it was assumed
    assert assumed < budget.after_tuning() < 2 * assumed + 1
    assert budget.after_tuning() > Budget(2, clock.now).after_tuning()


def test_where_there_is_no_time_the_head_is_all(clock):
    assert train(clock, ready(clock, 0.5), lambda number: 1.0) == []
    # the first step takes longer than expected
    assert len(train(clock, ready(clock, 1), lambda number: 1.0, first=40)) == 1


def test_a_run_that_goes_on_has_what_is_left_of_its_minutes(clock):
    began = clock.now
    budget = ready(clock, 5)
    budget.go_on(0.5, 100)
    shares = train(clock, budget, lambda number: 1.0)
    assert shares[0] == 0.5
    assert clock.now - began + budget.after_tuning() == pytest.approx(200, abs=1)
    late = ready(clock, 5)
    late.go_on(0.99, 290)
    assert late.share() == 1


def test_reading_that_takes_much_longer_than_the_minutes_is_refused(clock):
    shown = []
    budget = Budget(2, clock.now)
    show = budget.watched(lambda *progress: shown.append(progress))
    passed(clock, 6)
    show(10, 100, "reading images")
    passed(clock, 6)
    with pytest.raises(
        hubkeras.Error, match=r"Reading 1000 images takes about 10 minutes here, .* allows, 2; give more"
    ):
        show(20, 1000, "reading images")
    assert len(shown) == 2
    Budget(None, 0.0).watched(lambda *_: None)(1, 10**9, "reading images")


def test_without_minutes_nothing_is_late(clock):
    assert Budget(None, 0.0).share() == 0
