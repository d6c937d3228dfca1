"""Several processes that work as one, each with its own GPU: which of them this is, and launching them through accelerate.

A notebook stays one process. It calls `launch`, which hands a whole job (`helpers.worker`) to `accelerate launch`, and finds the
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

from helpers.run import machine, memory
from helpers.run.folder import Run

R = TypeVar("R")

FAILURE = ".failure.json"  # in a run folder: the error that ended a job
OUTPUT_KEPT = 4000  # characters of a job's output that are kept, to explain a failure
EXIT_CODE = re.compile(r"\brank\s*: (\d+).*\n\s*exitcode\s*: (-?\d+)")  # in the table that torch's launcher ends with
GRACE = 20.0  # seconds for processes to end by themselves


class ProcessesFailed(RuntimeError):
    """One of the processes of a job ended, and with it the job."""


# ---- within a job


def world_size() -> int:
    """Return how many processes work together; 1 outside of a job."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def is_distributed() -> bool:
    """Whether this process is one of several."""
    return world_size() > 1


def is_main_process() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return not is_distributed() or os.environ["RANK"] == "0"


def local_rank() -> int:
    """Return the index of this process's GPU on its host."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def show_own_gpu() -> None:
    """Make only this process's own GPU visible. Call it before CUDA starts.

    Where a process sees several GPUs, Unsloth's kernels check at every launch which one is meant.
    """
    if is_distributed():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            os.environ["CUDA_VISIBLE_DEVICES"] = str(local_rank())
        elif visible not in ("", "-1"):  # which hide every GPU: the CPU has no share to name
            devices = visible.split(",")
            if local_rank() >= len(devices):
                raise ValueError(
                    f"CUDA_VISIBLE_DEVICES={visible} has {len(devices)} GPU for {world_size()} processes: lower their number"
                )
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[local_rank()]
        os.environ["LOCAL_RANK"] = "0"  # by which libraries find the GPU


def partial_state() -> Any:
    """Join the other processes of the job and return accelerate's PartialState."""
    from accelerate import PartialState

    if machine.gpu() is None:  # it would call each process's device cpu:0, to which torch cannot restore an optimiser
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    return PartialState(cpu=machine.gpu() is None)


def main_process_first() -> AbstractContextManager:
    """A block that the main process leaves before the others enter it."""
    return partial_state().main_process_first() if is_distributed() else contextlib.nullcontext()


def barrier() -> None:
    """Wait until every process has come this far, so that timing starts with work and not with waiting."""
    if is_distributed():
        partial_state().wait_for_everyone()


def shard_and_gather(number: int, work: Callable[[list[int]], Sequence[R]]) -> list[R]:
    """Split the numbers 0 to number - 1 among the processes and return all results, in order, to each of them.

    Args:
        work: returns one result for each number in its list.
    """
    if not is_distributed():
        return list(work(list(range(number))))
    from accelerate.utils import gather_object

    state = partial_state()
    mine = list(range(state.process_index, number, state.num_processes))
    found = gather_object(list(zip(mine, work(mine), strict=True)))
    return [result for _, result in sorted(found, key=lambda pair: pair[0])]


def record_failure(run: Run, error: Exception) -> None:
    """Leave an error in the run folder for the process that launched the job. The first of several counts."""
    if not (run / FAILURE).is_file():
        run.write_json(FAILURE, {"process": int(os.environ.get("RANK", "0")), "kind": type(error).__name__, "says": str(error)})


# ---- launching a job


def check_count(processes: int) -> None:
    """Refuse more processes than this machine has GPUs, or cores where it has no GPU.

    Raises:
        ValueError: there are too few; the message says how many.
    """
    if processes == 1 or is_distributed():  # processes that run already have been checked
        return
    if machine.gpu() is None:
        available, kind = os.cpu_count() or 1, "processor cores"
    else:
        import torch

        available, kind = torch.cuda.device_count(), "GPUs"
    if processes > available:
        raise ValueError(f"num_processes={processes}, but this machine has {available} {kind}: lower it")


def launch(jobs: str, run: Run, processes: int, *options: str) -> None:
    """Run jobs of `helpers.worker` in several processes on this machine and print what they print.

    Args:
        jobs: one, or several separated by commas.

    Raises:
        torch.cuda.OutOfMemoryError: one of the GPUs ran out of memory.
        ProcessesFailed: a process ended before the job was done; the message says which, and why.
        KeyboardInterrupt: raised again after the processes have ended.
    """
    (run / FAILURE).unlink(missing_ok=True)
    memory.empty_cache()  # the first process shares this one's GPU
    running = subprocess.Popen(
        [*launch_command(processes), jobs, str(run.path), *options],
        cwd=machine.ROOT,
        env=os.environ | {"COURSE_HEADLESS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output = stream_output(running)
    except BaseException:
        terminate(running)
        raise
    if running.returncode:
        raise explain_failure(run, output, processes)


def launch_command(processes: int) -> list[str]:
    """Return the command that starts `helpers.worker` in several processes on this machine."""
    options = {
        "num_processes": processes,
        "num_machines": 1,
        "main_process_port": 0,  # any that is free
        "mixed_precision": "no",  # the trainer's own affair
        "dynamo_backend": "no",
        "num_cpu_threads_per_process": threads_per_process(processes),
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    # --multi_gpu is accelerate's word for several processes of one machine; without a GPU they connect over gloo.
    return [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", *flags, "-m", "helpers.worker"]


def threads_per_process(processes: int) -> int:
    """Return torch's CPU threads in each process: an equal share of the cores, or 1 when a GPU does the work."""
    return 1 if machine.gpu() else max(1, (os.cpu_count() or 1) // processes)


def stream_output(running: subprocess.Popen) -> str:
    """Print what a program prints as it comes; return the end of it."""
    output = ""
    for piece in read_pieces(running):
        sys.stderr.write(piece)
        sys.stderr.flush()
        output = (output + piece)[-OUTPUT_KEPT:]
    running.wait()
    return output


def read_pieces(running: subprocess.Popen) -> Iterator[str]:
    """Yield a program's output as it comes, not by lines: a progress bar ends no line."""
    while piece := running.stdout.read1():
        yield piece.decode(errors="replace")


def terminate(running: subprocess.Popen) -> None:
    """End a program and all processes that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(GRACE)
            return


def explain_failure(run: Run, output: str, processes: int) -> Exception:
    """Return the error that ended a job: its recorded error or, for a killed process, the signal the launcher shows."""
    import torch

    killed = [(rank, -int(code)) for rank, code in EXIT_CODE.findall(output) if int(code) < 0 and -int(code) != signal.SIGTERM]
    if killed:
        rank, number = killed[0]
        return ProcessesFailed(
            f"Process {int(rank) + 1} of {processes} was ended by {signal.Signals(number).name} (by hand, or memory ran out)"
        )
    if not (run / FAILURE).is_file():
        return ProcessesFailed(f"The {processes} processes could not be started:\n{output[-1000:]}")
    failure = run.read_json(FAILURE)
    if failure["kind"] == torch.cuda.OutOfMemoryError.__name__:
        return torch.cuda.OutOfMemoryError(failure["says"])
    return ProcessesFailed(f"Process {failure['process'] + 1} of {processes}: {failure['kind']}: {failure['says']}")
