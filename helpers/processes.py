"""Several processes that work as one, each with a GPU of its own: which of them this is, and starting them through accelerate.

A notebook stays one process. It calls `start`, which hands a whole job (`helpers.worker`) to `accelerate launch`, and finds the
job's result in the run folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from helpers import environment, memory
from helpers.runs import Run

R = TypeVar("R")

FAILURE = ".failure.json"  # in a run folder: the error that ended a job
SHOWN = 4000  # letters of a job's output that are kept, to say what was wrong
EXIT_CODE = re.compile(r"\brank\s*: (\d+).*\n\s*exitcode\s*: (-?\d+)")  # in the table that torch's launcher ends with
GRACE = 20.0  # seconds for processes to end by themselves


class ProcessesFailed(RuntimeError):
    """One of the processes of a job ended, and with it all."""


def count() -> int:
    """How many processes work together, 1 outside of a job."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def several() -> bool:
    """Whether this process is one of several."""
    return count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return not several() or os.environ["RANK"] == "0"


def device() -> int:
    """The number of this process's GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def take_own_gpu() -> None:
    """Show this process of a job its own GPU alone, before CUDA starts.

    Where it sees several, Unsloth's kernels make sure at every launch which of them is meant.
    """
    if several():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = seen.split(",")[device()] if seen else str(device())
        os.environ["LOCAL_RANK"] = "0"  # by which libraries find the GPU


def join() -> Any:
    """Meet the other processes of the job: accelerate's PartialState."""
    from accelerate import PartialState

    if environment.gpu() is None:  # it would call the device of each process cpu:0, which torch cannot restore an optimiser to
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    return PartialState(cpu=environment.gpu() is None)


def first_goes_first() -> AbstractContextManager:
    """A block that the first process leaves before the others enter it."""
    return join().main_process_first() if several() else contextlib.nullcontext()


def meet() -> None:
    """Wait until every process has come this far, so that what is timed from here on is work and no waiting for a late one."""
    if several():
        join().wait_for_everyone()


def spread(number: int, work: Callable[[list[int]], Sequence[R]]) -> list[R]:
    """What `work` makes of the numbers 0 to number - 1, in order: every process does a share, and all get everything."""
    if not several():
        return list(work(list(range(number))))
    from accelerate.utils import gather_object

    state = join()
    mine = list(range(state.process_index, number, state.num_processes))
    found = gather_object(list(zip(mine, work(mine), strict=True)))
    return [result for _, result in sorted(found, key=lambda one: one[0])]


def check(processes: int) -> None:
    """Refuse more processes than this machine has GPUs, or without a GPU cores.

    Raises:
        ValueError
    """
    if processes == 1 or several():  # those that are running have been let
        return
    if environment.gpu() is None:
        there, kind = os.cpu_count() or 1, "processor cores"
    else:
        import torch

        there, kind = torch.cuda.device_count(), "GPUs"
    if processes > there:
        raise ValueError(f"num_processes={processes}, but this machine has {there} {kind}: lower it")


def start(job: str, run: Run, processes: int, *options: str) -> None:
    """Do a job of `helpers.worker` in several processes on this machine, and show what it prints.

    Raises:
        torch.cuda.OutOfMemoryError: the memory of one of the GPUs ran out.
        ProcessesFailed: a process ended before the job was done; the message says which, and why.
        KeyboardInterrupt: after the processes have ended.
    """
    (run / FAILURE).unlink(missing_ok=True)
    memory.free_unused_memory()  # the first process shares this one's GPU
    running = subprocess.Popen(
        [*launcher(processes), job, str(run.path), *options],
        cwd=environment.ROOT,
        env=os.environ | {"COURSE_HEADLESS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output = shown(running)
    except BaseException:
        end(running)
        raise
    if running.returncode:
        raise reason(run, output, processes)


def launcher(processes: int) -> list[str]:
    """The command that starts `helpers.worker` so many times on this machine."""
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,  # any that is free
        "mixed_precision": "no",  # the trainer's own affair
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": threads(processes),
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    # --multi_gpu is accelerate's word for several processes of one machine; without a GPU they meet over gloo.
    return [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *flags, "-m", "helpers.worker"]


def threads(processes: int) -> int:
    """Of torch on the processor, in each process: the cores shared out; one where a GPU does the work."""
    return 1 if environment.gpu() else max(1, (os.cpu_count() or 1) // processes)


def shown(running: subprocess.Popen) -> str:
    """Pass on what a program prints as it comes; returns the end of it."""
    output = ""
    for piece in pieces(running):
        sys.stderr.write(piece)
        sys.stderr.flush()
        output = (output + piece)[-SHOWN:]
    running.wait()
    return output


def pieces(running: subprocess.Popen) -> Iterator[str]:
    """What a program prints, as it comes: a progress bar ends no line."""
    while piece := running.stdout.read1():
        yield piece.decode(errors="replace")


def end(running: subprocess.Popen) -> None:
    """End a program and all that it has started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(GRACE)
            return


def note_failure(run: Run, error: Exception) -> None:
    """Leave word of an error for the process that started the job; the first of several counts."""
    if not (run / FAILURE).is_file():
        run.write_json(FAILURE, {"process": int(os.environ.get("RANK", "0")), "kind": type(error).__name__, "says": str(error)})


def reason(run: Run, output: str, processes: int) -> Exception:
    """Why a job failed, from the error that it left or, where a process was killed, from the launcher's table."""
    import torch

    killed = [(rank, -int(code)) for rank, code in EXIT_CODE.findall(output) if int(code) < 0 and -int(code) != signal.SIGTERM]
    if killed:
        rank, number = killed[0]
        return ProcessesFailed(
            f"Process {int(rank) + 1} of {processes} was ended by {signal.Signals(number).name} (by hand, or for want of memory)"
        )
    if not (run / FAILURE).is_file():
        return ProcessesFailed(f"The {processes} processes could not be started:\n{output[-1000:]}")
    failure = run.read_json(FAILURE)
    if failure["kind"] == torch.cuda.OutOfMemoryError.__name__:
        return torch.cuda.OutOfMemoryError(failure["says"])
    return ProcessesFailed(f"Process {failure['process'] + 1} of {processes}: {failure['kind']}: {failure['says']}")
