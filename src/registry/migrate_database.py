"""Brings a SQLite file that an older MLflow wrote up to date, after a copy of it was made.

    python -I -c MIGRATE_DATABASE DATABASE BACKUP

The copy is SQLite's own online backup, checked and on disk before anything else happens. Where the upgrade fails, the
file gets the copy's content again. Prints one JSON object: {"state": ..., "reason": ...} with the state migrated,
untouched, restored or damaged.
"""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys

WAIT = 10  # seconds, for another program that is writing


def connect(path):
    return contextlib.closing(sqlite3.connect(path, timeout=WAIT))


def copy(source, target):
    with connect(source) as old, connect(target) as new:
        old.backup(new)
        (verdict,) = new.execute("PRAGMA quick_check").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)


def back_up(database, backup):
    partial = backup + ".part"
    with contextlib.suppress(FileNotFoundError):
        os.remove(partial)
    copy(database, partial)
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.rename(partial, backup)


def upgrade(database):
    """The last line that the upgrade said where it failed, else None."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_", "PYTHON"))}
    environment.update(MLFLOW_DISABLE_TELEMETRY="true", PYTHONNOUSERSITE="1")
    command = [sys.executable, "-I", "-m", "mlflow", "db", "upgrade", "sqlite:///" + database]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else f"it ended with code {done.returncode}"


def main(database, backup):
    try:
        back_up(database, backup)
    except (OSError, sqlite3.Error) as error:
        return {"state": "untouched", "reason": str(error)}
    reason = upgrade(database)
    if reason is None:
        return {"state": "migrated"}
    try:
        copy(backup, database)
    except (OSError, sqlite3.Error) as error:
        return {"state": "damaged", "reason": f"{reason}; {error}"}
    return {"state": "restored", "reason": reason}


print(json.dumps(main(*sys.argv[1:])))
