"""A whole scenario: every board under every policy, each in a process of its own, as many at once as asked for."""

import _thread
import multiprocessing
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tools.scenario import board as boards
from tools.scenario import program as programs
from tools.scenario import signals, trace
from tools.scenario.program import Program
from tools.scenario.results import Result, summarize
from tools.scenario.schema import Group, Policy, Scenario

_GOODBYE_S = 10
Task = tuple[Policy, Group, str]
_SHARED_MEMORY = Path("/dev/shm")  # what boards write to flash needs no disk


@dataclass(frozen=True)
class Outcome:
    """results: by policy in the order of the file, then by board. cpu_s: of all processes, their imports and what was
    built for them aside; wall_s: as it passed, once that was built."""

    scenario: Scenario
    results: dict[str, list[Result]]
    cpu_s: float
    wall_s: float
    jobs: int


def run(
    scenario: Scenario, traces: Path | None, jobs: int, tell: Callable[[str], None] = lambda _line: None
) -> Outcome:
    """Run all of it; traces: a folder for one trace file each, or None. Raises ScenarioError, board.BoardEnded.

    Boards share nothing, so neither the order nor the number of processes changes a result.
    """
    program = programs.best(tell)
    began, cpu_before, cpu_s = time.monotonic(), _cpu_s(), 0.0
    for group, board in scenario.boards:
        signals.play(group, board, min(scenario.duration_ms, 60_000), scenario.seed)  # refuse before the work begins
    if traces is not None:
        traces.mkdir(parents=True, exist_ok=True)
    tasks = [(policy, group, board) for policy in scenario.policies for group, board in scenario.boards]
    tasks.sort(key=lambda task: task[0].uplink != "edgewise")  # the longest first
    found: dict[tuple[str, str], Result] = {}
    for (policy, _, board), (result, spent_s) in _each(scenario, program, tasks, traces, jobs):
        found[policy.name, board] = result
        cpu_s += spent_s
        tell(f"{policy.name}: {board}, {sum(result.wakes.values())} wakes, {result.sessions} sessions")
    results = {policy.name: [found[policy.name, board] for _, board in scenario.boards] for policy in scenario.policies}
    return Outcome(scenario, results, cpu_s + _cpu_s() - cpu_before, time.monotonic() - began, jobs)


def _each(
    scenario: Scenario, program: Program, tasks: list[Task], traces: Path | None, jobs: int
) -> Iterator[tuple[Task, tuple[Result, float]]]:
    """The tasks as they are done, each with its result and the processor time that other processes spent on it."""
    if jobs == 1:
        for task in tasks:
            yield task, (run_one(scenario, *task, program, traces), 0.0)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # imported once, not once a process: that is seconds
    with ProcessPoolExecutor(min(jobs, len(tasks)), context, _watch_parent) as pool:
        running = {pool.submit(_run_and_count, scenario, *task, program, traces): task for task in tasks}
        try:
            for done in as_completed(running):
                yield running[done], done.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _watch_parent() -> None:
    """In a worker: should whoever asked for the work be killed, end it too, with the board's program and its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_it() -> None:
        parent.join()
        _thread.interrupt_main()
        time.sleep(_GOODBYE_S)
        os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()


def _run_and_count(
    scenario: Scenario, policy: Policy, group: Group, board: str, program: Program, traces: Path | None
) -> tuple[Result, float]:
    """run_one, and the processor time it took."""
    before = _cpu_s()
    return run_one(scenario, policy, group, board, program, traces), _cpu_s() - before


def run_one(
    scenario: Scenario, policy: Policy, group: Group, board: str, program: Program, traces: Path | None
) -> Result:
    """One board under one policy; the world around it in this process."""
    played = signals.play(group, board, scenario.duration_ms, scenario.seed)
    shared = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="edgewise-sim-", dir=shared) as folder:
        found = boards.run(scenario, policy, group, board, played, Path(folder) / board, program)
    if traces is not None:
        trace.write(traces / trace.file_name(policy.name, board), scenario, policy, group, found)
    return summarize(scenario, group, played, found)


def _cpu_s() -> float:
    """Processor time of this process and of those that have ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
