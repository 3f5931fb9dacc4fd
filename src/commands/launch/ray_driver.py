"""Runs every share of an evaluation as a Ray task; `detgate launch ray` says with what, and merges behind it."""

import json
import subprocess
import sys

try:
    import ray
except ImportError:
    sys.exit(f"{sys.executable} has no ray")

job = json.loads(sys.argv[1])


class Interrupted(Exception):
    """A share was ended from outside; what it has found is kept, and it goes on where it was."""


@ray.remote(num_cpus=job["cpus"], max_retries=job["retries"], retry_exceptions=[Interrupted])
def share(index):
    command = [*job["eval"], "--shard", f"{index}/{job['shards']}"]
    code = subprocess.run(command, cwd=job["cwd"]).returncode
    if code < 0 or code in (130, 143):
        raise Interrupted(f"share {index} was ended ({code})")
    return code


ray.init(address=job["address"], log_to_driver=True)
codes = ray.get([share.remote(index) for index in range(1, job["shards"] + 1)])
failed = [index for index, code in enumerate(codes, 1) if code != 0]
if failed:
    sys.exit(f"shares {failed} failed; see what they said above")
