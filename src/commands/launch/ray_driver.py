"""Runs every share of an evaluation as a Ray task, then merges; `detgate launch ray` says with what."""

import json
import subprocess
import sys

COULD_NOT_EVALUATE = 2


def give_up(why):
    # Python's own exit code for errors would mean that the model has regressed.
    print(f"error: {why}", file=sys.stderr)
    sys.exit(COULD_NOT_EVALUATE)


try:
    import ray
except ImportError:
    give_up(f"{sys.executable} has no ray; name a Python that has it by --python")

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


try:
    ray.init(address=job["address"], log_to_driver=True)
    codes = ray.get([share.remote(index) for index in range(1, job["shards"] + 1)])
except Exception as error:
    give_up(f"Ray did not run all shares: {error}")
failed = [index for index, code in enumerate(codes, 1) if code != 0]
if failed:
    give_up(f"shares {failed} failed; see what they said above")
sys.exit(subprocess.run(job["merge"], cwd=job["cwd"]).returncode)
