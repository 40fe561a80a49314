"""The campaign at full size; `README.md` has its environment. The tests' own suite has six small cases of it."""

import contextlib
import math
import os
import pathlib

import pytest

from tools.campaign import bench, crowds, forms, kills, running, trainings
from tools.campaign.commands import COMMANDS, make_models
from tools.campaign.faults import FAULTS

MUTANTS, MOMENTS, TRAININGS = 5000, 6, 10
KILLS = sum(command.kills for command in COMMANDS.values())

pytestmark = pytest.mark.campaign


def number(name: str, default: int) -> int:
    """A number of the environment."""
    return int(os.environ.get(f"HUBKERAS_{name}", default))


@pytest.fixture(autouse=True)
def shown(capsys):
    """What is counted is printed where it is run."""
    with capsys.disabled():
        yield


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return running.make_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    with contextlib.closing(bench.Bench(tmp_path_factory.mktemp("bench"))) as faulty:
        yield faulty


def test_mutants(originals, tmp_path):
    names, first = list(forms.FORMS), number("SEED", 1000)
    jobs = [(names[i % len(names)], first + i // len(names)) for i in range(number("MUTANTS", MUTANTS))]
    journal = os.environ.get("HUBKERAS_JOURNAL")
    running.check(jobs, originals, tmp_path, journal=journal and pathlib.Path(journal), workers=number("WORKERS", 2))


def test_wrong_weights_and_crashes_are_noticed(originals, tmp_path):
    running.check_notices(originals, tmp_path)


@pytest.mark.parametrize("name", COMMANDS)
def test_kills(name, models, tmp_path):
    share, first = number("KILLS", KILLS) / KILLS, number("SEED", 0)
    seeds = range(first, first + math.ceil(COMMANDS[name].kills * share))
    print(f"\n{name}: {dict(kills.kill_many(name, seeds, models, tmp_path))}")


def test_trainings(tmp_path):
    first = number("SEED", 0)
    seeds = range(first, first + number("TRAININGS", TRAININGS))
    photos = trainings.write_photos(tmp_path / "photos")
    print(f"\ntrainings: {dict(trainings.check(photos, tmp_path, seeds, most=3))}")


@pytest.mark.parametrize("name", COMMANDS)
def test_faults(name, faulty):
    first = number("SEED", 100)
    bench.check(faulty, [name], FAULTS, range(first, first + number("FAULTS", MOMENTS)))


@pytest.mark.parametrize("kind", crowds.WRITERS)
def test_crowds(kind, tmp_path):
    crowds.check(kind, 120, 6, crowds.make_folder(tmp_path))
