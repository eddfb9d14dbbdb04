"""Jobs: any number of pictures or latents, block by block, on several processes or a cluster, into Parquet files.

    from vaecli import jobs, load

    result = jobs.run(load("runs/default"), jobs.Encode(std=True), "shards/*.tar", "latents.parquet", workers=4)

Worker processes do not import the script that starts them, so it needs no `if __name__ == "__main__":`.
"""

from __future__ import annotations

from vaecli.jobs.stage import JobResult as JobResult
from vaecli.jobs.stage import run as run
from vaecli.jobs.tasks import Decode as Decode
from vaecli.jobs.tasks import Encode as Encode
from vaecli.jobs.tasks import Reconstruct as Reconstruct
from vaecli.jobs.tasks import Score as Score
from vaecli.jobs.tasks import Task as Task

__all__ = ["Decode", "Encode", "JobResult", "Reconstruct", "Score", "Task", "run"]
