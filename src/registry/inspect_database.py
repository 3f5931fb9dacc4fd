"""Says whether the installed MLflow may open a SQLite file, without changing the file.

    python -I -c INSPECT_DATABASE DATABASE

A newer MLflow migrates an older database in silence, after which the older client can no longer open it; so the
schema's revision is compared first. Prints one JSON object: {"state": ..., "found": ..., "expected": ...,
"mlflow": ..., "reason": ...}.
"""

import importlib.metadata
import importlib.util
import json
import os
import sqlite3
import sys
import urllib.parse

WAIT = 10  # seconds, for another program that is writing


def expected():
    """The newest revision that the installed MLflow knows, and all of them."""
    from alembic.script import ScriptDirectory

    # find_spec does not import MLflow, which takes seconds.
    package = importlib.util.find_spec("mlflow").submodule_search_locations[0]
    scripts = ScriptDirectory(os.path.join(package, "store", "db_migrations"))
    return scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}


def revision(path):
    """The schema's revision; None for a database without tables, "" for one that is not MLflow's."""
    uri = "file:" + urllib.parse.quote(os.path.abspath(path)) + "?mode=rw"
    database = sqlite3.connect(uri, uri=True, timeout=WAIT, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")  # fails where the server's first write would
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" in tables:
            row = database.execute("SELECT version_num FROM alembic_version").fetchone()
            return row[0] if row else ""
        return "" if tables else None
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
        database.close()


def verdict(path):
    head, known = expected()
    facts = {"expected": head, "mlflow": importlib.metadata.version("mlflow-skinny")}
    if not os.path.exists(path):
        return {"state": "new", **facts}
    try:
        found = revision(path)
    except sqlite3.Error as error:
        locked = "locked" in str(error)
        return {"state": "locked" if locked else "unreadable", "reason": str(error), **facts}
    if found is None:
        return {"state": "new", **facts}
    if found == "":
        return {"state": "foreign", **facts}
    state = "current" if found == head else "older" if found in known else "unknown"
    return {"state": state, "found": found, **facts}


try:
    answer = verdict(sys.argv[1])
except (ImportError, AttributeError) as error:
    answer = {"state": "no mlflow", "reason": str(error)}
print(json.dumps(answer))
