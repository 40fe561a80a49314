"""Runs mutants through worker processes and counts what became of them."""

from __future__ import annotations

import collections
import concurrent.futures
import json
import os
import pathlib
import queue
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.files import ROOT
from tools.campaign.forms import FORMS, network
from tools.campaign.mutants import mutate

OUTCOMES = ("refused", "harmless", "wrong", "other exception", "abort", "hang")
GOOD = OUTCOMES[:2]
MOST_BYTES = 1 << 30  # of memory that a refusal may take
TIMEOUT = 600.0  # seconds, after which a mutant hangs


class Answer(NamedTuple):
    """What a worker says.

    Attributes:
        outcome: one of `OUTCOMES`.
        text: a message, or an error.
        peak: bytes of memory that it took at most.
    """

    outcome: str
    text: str
    peak: int = 0


class Worker:
    """A worker process, started anew when it has ended.

    Attributes:
        log: the file for what it writes to standard error.
        module: what it runs; it reads lines of JSON and answers each with those of `Answer`.
    """

    def __init__(self, log: pathlib.Path, module: str = "tools.campaign.worker") -> None:
        self.log, self.module = log, module
        self.process: subprocess.Popen | None = None

    def _start(self) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "3"}
        with open(self.log, "a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=environment,
            )

    def ask(self, **question: Any) -> Answer:
        """The outcome of a mutant."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        try:
            self.process.stdin.write((json.dumps(question) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return Answer("abort", f"exit status {self.process.wait()}")
        if not select.select([self.process.stdout], [], [], TIMEOUT)[0]:
            self.stop()
            return Answer("hang", f"no answer in {TIMEOUT:.0f} seconds")
        answer = self.process.stdout.readline()
        if not answer:
            return Answer("abort", f"exit status {self.process.wait()}")
        return Answer(**json.loads(answer))

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


@dataclass
class Count:
    """What became of the mutants.

    Attributes:
        outcomes: `{form: Counter of OUTCOMES}`.
        bad: sentences on those that were neither refused nor harmless.
        peaks: `{form: bytes}` of memory that refusing one took at most.
    """

    outcomes: dict[str, collections.Counter] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    bad: list[str] = field(default_factory=list)
    peaks: dict[str, int] = field(default_factory=dict)

    def add(self, form: str, seed: int, done: str, answer: Answer) -> None:
        """Counts a mutant: which it is, what was done to it, what became of it."""
        self.outcomes[form][answer.outcome] += 1
        if answer.outcome == "refused":
            self.peaks[form] = max(answer.peak, self.peaks.get(form, 0))
        if answer.outcome not in GOOD:
            self.bad.append(f"{form}, seed {seed}, {done}: {answer.outcome} {answer.text}")

    def table(self) -> str:
        """The numbers, a line for each form and one for all."""
        rows = [("", *OUTCOMES), *((form, *map(count.get, OUTCOMES)) for form, count in self.outcomes.items())]
        total = sum(self.outcomes.values(), collections.Counter())
        rows.append(("all", *map(total.get, OUTCOMES)))
        lines = [f"{form:<38}" + "".join(f"{number or 0:>16}" for number in numbers) for form, *numbers in rows]
        if any(self.peaks.values()):
            worst = max(self.peaks, key=self.peaks.__getitem__)
            lines.append(f"refusing took at most {self.peaks[worst] >> 20} MiB of memory ({worst})")
        return "\n".join(lines)


def run(
    jobs: Iterable[tuple[str, int]],
    originals: pathlib.Path,
    scratch: pathlib.Path,
    workers: int = 2,
    journal: pathlib.Path | None = None,
) -> Count:
    """Makes mutants and has them read.

    Args:
        jobs: forms and seeds.
        originals: a folder with that of each form.
        scratch: a folder for the mutants, which are removed again, on the same disk.
        workers: how many processes read.
        journal: a file that keeps what became of each mutant, so that a run that was stopped goes on.
    """
    count, done_before = Count(), set()
    if journal is not None and journal.exists():
        for line in journal.read_text().splitlines():
            try:
                form, seed, done, answer = json.loads(line)
            except ValueError:  # where the run was stopped
                continue
            done_before.add((form, seed))
            count.add(form, seed, done, Answer(*answer))
    jobs = [job for job in jobs if job not in done_before]
    free: queue.Queue[Worker] = queue.Queue()
    adding = threading.Lock()
    for number in range(workers):
        free.put(Worker(scratch / f"worker{number}.log"))

    def one(job: tuple[str, int]) -> None:
        name, seed = job
        form, original, worker = FORMS[name], originals / name, free.get()
        copy = scratch / f"{name} {seed}"
        try:
            done = mutate(original, copy, f"{name} {seed}", form.files, form.whole_only)
            answer = worker.ask(form=name, original=str(original / form.name), mutant=str(copy / form.name))
        finally:
            free.put(worker)
            shutil.rmtree(copy, ignore_errors=True)
        with adding:
            count.add(name, seed, done, answer)
            if journal is not None:
                with open(journal, "a") as file:
                    file.write(json.dumps([name, seed, done, answer]) + "\n")

    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, jobs))
    finally:
        while not free.empty():
            free.get().stop()
    return count


def make_originals(folder: pathlib.Path) -> pathlib.Path:
    """Fills a folder with a folder for each form."""
    for name, form in FORMS.items():
        (folder / name).mkdir()
        form.make(network(), folder / name)
    return folder


def check(jobs: list[tuple[str, int]], originals: pathlib.Path, scratch: pathlib.Path, **options: Any) -> None:
    """Runs mutants, prints what became of them, and fails where one was neither refused nor harmless."""
    count = run(jobs, originals, scratch, **options)
    print(f"\n{count.table()}")
    assert count.bad == []
    assert max(count.peaks.values(), default=0) < MOST_BYTES, count.peaks
    assert sum(sum(outcomes.values()) for outcomes in count.outcomes.values()) == len(jobs)


def check_notices(originals: pathlib.Path, scratch: pathlib.Path) -> None:
    """Checks that wrong weights and crashes show: a campaign that cannot fail would prove nothing."""
    name = "frozen SavedModel"
    worker, outcomes = Worker(scratch / "log"), set()
    try:
        for seed in range(3):
            mutate(originals / name, scratch / str(seed), str(seed), "**/labels.txt", FORMS[name].whole_only)
            mutant = scratch / str(seed) / "model"
            (mutant / "assets.extra" / "checksums.json").unlink()
            (mutant / "fingerprint.pb").unlink()
            outcomes.add(worker.ask(form=name, original=str(originals / name / "model"), mutant=str(mutant)).outcome)
        worker.process.kill()
        worker.process.wait()
        worker.process.poll = lambda: None  # so that it is not started anew
        assert worker.ask(form=name, original="", mutant="").outcome == "abort"
    finally:
        worker.stop()
    assert "wrong" in outcomes
