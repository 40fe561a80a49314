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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.campaign.forms import FORMS
from tests.campaign.mutants import mutate
from tests.conftest import ROOT

OUTCOMES = ("refused", "harmless", "wrong", "other exception", "abort", "hang")
GOOD = OUTCOMES[:2]
TIMEOUT = 180.0  # seconds for one mutant, on a busy machine


class Worker:
    """A worker process, started anew when it has ended.

    Attributes:
        log: the file for what it writes to standard error.
        module: what it runs; it reads lines of JSON and answers each with `{"outcome", "text"}`.
    """

    def __init__(self, log: pathlib.Path, module: str = "tests.campaign.worker") -> None:
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

    def ask(self, **question: Any) -> tuple[str, str]:
        """The outcome of a mutant and the message."""
        if self.process is None or self.process.poll() is not None:
            self.process = self._start()
        try:
            self.process.stdin.write((json.dumps(question) + "\n").encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            return "abort", f"exit status {self.process.wait()}"
        if not select.select([self.process.stdout], [], [], TIMEOUT)[0]:
            self.stop()
            return "hang", f"no answer in {TIMEOUT:.0f} seconds"
        answer = self.process.stdout.readline()
        if not answer:
            return "abort", f"exit status {self.process.wait()}"
        return tuple(json.loads(answer)[key] for key in ("outcome", "text"))

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
    """

    outcomes: dict[str, collections.Counter] = field(
        default_factory=lambda: collections.defaultdict(collections.Counter)
    )
    bad: list[str] = field(default_factory=list)

    def table(self) -> str:
        """The numbers, a line for each form and one for all."""
        rows = [("", *OUTCOMES), *((form, *map(count.get, OUTCOMES)) for form, count in self.outcomes.items())]
        total = sum(self.outcomes.values(), collections.Counter())
        rows.append(("all", *map(total.get, OUTCOMES)))
        return "\n".join(f"{form:<38}" + "".join(f"{number or 0:>16}" for number in numbers) for form, *numbers in rows)


def run(jobs: Iterable[tuple[str, int]], originals: pathlib.Path, scratch: pathlib.Path, workers: int = 2) -> Count:
    """Makes mutants and has them read.

    Args:
        jobs: forms and seeds.
        originals: a folder with that of each form.
        scratch: a folder for the mutants, which are removed again, on the same disk.
        workers: how many processes read.
    """
    free: queue.Queue[Worker] = queue.Queue()
    for number in range(workers):
        free.put(Worker(scratch / f"worker{number}.log"))
    count = Count()

    def one(job: tuple[str, int]) -> None:
        name, seed = job
        form, original, worker = FORMS[name], originals / name, free.get()
        copy = scratch / f"{name} {seed}"
        try:
            done = mutate(original, copy, f"{name} {seed}", form.files, form.whole_only)
            answer, text = worker.ask(form=name, original=str(original / form.name), mutant=str(copy / form.name))
        finally:
            free.put(worker)
            shutil.rmtree(copy, ignore_errors=True)
        count.outcomes[name][answer] += 1
        if answer not in GOOD:
            count.bad.append(f"{name}, seed {seed}, {done}: {answer} {text}")

    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, jobs))
    finally:
        while not free.empty():
            free.get().stop()
    return count
