"""A SLURM of the tests: its commands write down what they were told, and jobs run where the test says.

What a job runs is submitit's own code, in this process; so it starts at once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


class Slurm:
    """Puts `sbatch`, `squeue`, `scancel` and `srun` on PATH."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        self._patch = patch
        script = f"""#!/bin/sh
cd {folder}
echo "$(basename $0) $@" >> calls
case $(basename $0) in
sbatch) [ -e refusal ] && {{ cat refusal >&2; exit 1; }}
        n=$(cat count 2>/dev/null || echo 100); n=$((n + 1)); echo $n > count; cp "$1" script-$n
        last=$(sed -n 's/.*--array=0-\\([0-9]*\\).*/\\1/p' "$1")
        if [ "$last" ]; then for i in $(seq 0 $last); do echo "${{n}}_$i|PENDING" >> queue; done
        else echo "$n|PENDING" >> queue; fi
        echo "Submitted batch job $n";;
squeue) cat queue 2>/dev/null;;
esac
exit 0
"""
        for name in ("sbatch", "squeue", "scancel", "srun", "scontrol"):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def refuses(self, message: str | None) -> None:
        path = self.folder / "refusal"
        path.write_text(message) if message else path.unlink()

    def says(self, job_id: str, state: str) -> None:
        """From now on squeue answers so."""
        queue = self.folder / "queue"
        states = dict(line.split("|") for line in queue.read_text().splitlines())
        states[job_id] = state
        queue.write_text("".join(f"{job}|{state}\n" for job, state in states.items()))

    def calls(self, command: str) -> list[str]:
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.split()[0] == command]

    def script(self, number: int) -> list[str]:
        return (self.folder / f"script-{number}").read_text().splitlines()

    def run(self, job_id: str, folder: Path) -> None:
        """A job, from its start to its end."""
        from submitit.core.submission import process_job

        array, _, element = job_id.partition("_")
        told = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": array, "SUBMITIT_FOLDER": str(folder)}
        if element:
            told |= {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": element}
        numbers = (signal.SIGTERM, signal.SIGCONT, signal.SIGUSR2)
        before = {number: signal.getsignal(number) for number in numbers}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in told.items():
                patch.setenv(name, value)
            try:
                process_job(folder)
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        self.says(job_id, "COMPLETED")
