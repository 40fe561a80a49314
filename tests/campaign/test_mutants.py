"""One thing wrong in any form of a model: it is refused with `hubkeras.Error`, or it changes no bit of what is read.

`pytest -m campaign` runs 5,000 mutants, which takes about six minutes on two cores; the suite runs a few of each form.
Environment: `HUBKERAS_MUTANTS`, how many; `HUBKERAS_SEED`, the first seed; `HUBKERAS_WORKERS`, how many processes, 2;
`HUBKERAS_JOURNAL`, a file with what became of each, from which a run that was stopped goes on.
"""

import os
import pathlib

import pytest

from tests.campaign import forms, running
from tests.campaign.mutants import mutate

CAMPAIGN = 5000
FIRST_SEED = 1000
FEW = 1  # of each form, for the ordinary suite
MOST_BYTES = 1 << 30  # of memory that a refusal may take


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder with that of each form."""
    folder = tmp_path_factory.mktemp("originals")
    for name, form in forms.FORMS.items():
        (folder / name).mkdir()
        form.make(forms.network(), folder / name)
    return folder


def check(jobs, originals, tmp_path, capsys, **options):
    count = running.run(jobs, originals, tmp_path, **options)
    with capsys.disabled():
        print(f"\n{count.table()}")
    assert count.bad == []
    assert max(count.peaks.values(), default=0) < MOST_BYTES, count.peaks
    assert sum(sum(outcomes.values()) for outcomes in count.outcomes.values()) == len(jobs)


@pytest.mark.slow
def test_a_few_mutants(originals, tmp_path, capsys):
    check([(form, seed) for form in forms.FORMS for seed in range(FEW)], originals, tmp_path, capsys)


@pytest.mark.campaign
def test_many_mutants(originals, tmp_path, capsys):
    names, first = list(forms.FORMS), int(os.environ.get("HUBKERAS_SEED", FIRST_SEED))
    number = int(os.environ.get("HUBKERAS_MUTANTS", CAMPAIGN))
    jobs = [(names[i % len(names)], first + i // len(names)) for i in range(number)]
    journal = os.environ.get("HUBKERAS_JOURNAL")
    options = {"journal": journal and pathlib.Path(journal), "workers": int(os.environ.get("HUBKERAS_WORKERS", "2"))}
    check(jobs, originals, tmp_path, capsys, **options)


@pytest.mark.campaign
def test_the_campaign_notices_wrong_weights_and_crashes(originals, tmp_path, monkeypatch):
    """A campaign that cannot fail would prove nothing: what reads without checks is found out."""
    form = forms.FORMS["frozen SavedModel"]
    worker = running.Worker(tmp_path / "log")
    outcomes = set()
    try:
        for seed in range(3):
            mutate(originals / "frozen SavedModel", tmp_path / str(seed), str(seed), "**/labels.txt", form.whole_only)
            (tmp_path / str(seed) / "model" / "assets.extra" / "checksums.json").unlink()
            (tmp_path / str(seed) / "model" / "fingerprint.pb").unlink()
            original, mutant = (originals / "frozen SavedModel" / "model", tmp_path / str(seed) / "model")
            outcomes.add(worker.ask(form="frozen SavedModel", original=str(original), mutant=str(mutant)).outcome)
        worker.process.kill()
        worker.process.wait()
        monkeypatch.setattr(worker.process, "poll", lambda: None)
        assert worker.ask(form="frozen SavedModel", original="", mutant="").outcome == "abort"
    finally:
        worker.stop()
    assert "wrong" in outcomes
