"""Seven small cases of `tools/campaign`, which has thousands: damaged models, killed runs, faults, crowds."""

import contextlib

import pytest

from tools.campaign import bench, crowds, kills, running, trainings
from tools.campaign.commands import COMMANDS, make_models
from tools.campaign.faults import FAULTS
from tools.campaign.forms import FORMS

QUICK = ("pack", "install", "install an archive", "sign")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    with contextlib.closing(bench.Bench(tmp_path_factory.mktemp("bench"))) as faulty:
        yield faulty


@pytest.mark.slow
def test_a_damaged_model_of_each_form_is_refused_or_harmless(tmp_path):
    (tmp_path / "originals").mkdir()
    originals = running.make_originals(tmp_path / "originals")
    running.check([(form, 0) for form in FORMS], originals, tmp_path)


@pytest.mark.slow
def test_a_killed_install_leaves_the_old_or_the_new(tmp_path):
    (tmp_path / "models").mkdir()
    assert sum(kills.kill_many("install", range(4), make_models(tmp_path / "models"), tmp_path).values()) == 4


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_to_the_same_model(tmp_path):
    count = trainings.check(trainings.write_photos(tmp_path / "photos"), tmp_path, range(1), most=1)
    assert sum(count.values()) == 1


@pytest.mark.slow
def test_faults_leave_all_as_it_was(faulty):
    count = bench.check(faulty, QUICK, FAULTS, range(4))
    for fault in count.outcomes:  # no fault that is none
        assert count.outcomes[fault]["refused"] > 0, fault


@pytest.mark.slow
def test_what_is_left_half_written_is_found_out(faulty, monkeypatch):
    """Faults that nothing notices would prove nothing."""
    if "pack" not in faulty.made:
        faulty.make("pack")
    ask = faulty.ask

    def careless(name, which, folder, **more):
        answer = ask(name, which, folder, **more)
        if more:
            (folder / COMMANDS[name].target).write_bytes(b"half")
        return answer

    monkeypatch.setattr(faulty, "ask", careless)
    assert faulty.try_one("pack", "files have a limit", 0)[0] == "wrong"


@pytest.mark.slow
def test_a_crowd_at_one_cache_entry_gets_whole_models(tmp_path):
    crowds.check("cache", 3, 2, crowds.make_folder(tmp_path))


@pytest.mark.slow
def test_one_at_a_time_holds_the_lock_of_a_cache_entry_on_two_hosts(tmp_path):
    crowds.check_lock(crowds.make_folder(tmp_path), 2)
