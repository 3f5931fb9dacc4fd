"""Says whether the installed MLflow may open a SQLite file, without changing the file.

    python -I -c INSPECT_DATABASE DATABASE

A newer MLflow migrates an older database in silence, after which the older client can no longer open it; so the
schema's revision is compared first. Prints one JSON object: {"state": ..., "found": ..., "expected": ...,
"mlflow": ..., "reason": ...}.
"""

import ast
import importlib.metadata
import importlib.util
import json
import os
import sqlite3
import sys
import urllib.parse

WAIT = 10  # seconds, for another program that is writing


def expected():
    """The newest revision that the installed MLflow knows, and all of them.

    Read from the text of its migrations: importing them imports MLflow, which takes seconds.
    """
    package = importlib.util.find_spec("mlflow").submodule_search_locations[0]
    folder = os.path.join(package, "store", "db_migrations", "versions")
    known, followed = set(), set()
    for name in os.listdir(folder):
        if name.endswith(".py") and name != "__init__.py":
            revision, down = identifiers(os.path.join(folder, name))
            known.add(revision)
            followed.update(down)
    (head,) = known - followed
    return head, known


def identifiers(path):
    """A migration's own revision, and those that it follows."""
    with open(path, encoding="utf-8") as file:
        statements = ast.parse(file.read()).body
    values = {}
    for statement in statements:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            if getattr(target, "id", None) in ("revision", "down_revision"):
                values[target.id] = ast.literal_eval(statement.value)
    down = values.get("down_revision")
    return values["revision"], (down if isinstance(down, tuple) else (down,))


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


def has_uvicorn():
    """Whether the server can be told to listen on a Unix socket, as `launcher.py` does."""
    package = importlib.util.find_spec("mlflow").submodule_search_locations[0]
    for cli in ("cli/__init__.py", "cli.py"):
        path = os.path.join(package, cli)
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                return "--uvicorn-opts" in file.read()
    return False


def verdict(path):
    head, known = expected()
    facts = {"expected": head, "mlflow": importlib.metadata.version("mlflow-skinny")}
    if not has_uvicorn():
        return {"state": "old mlflow", **facts}
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
except (ImportError, AttributeError, OSError) as error:
    answer = {"state": "no mlflow", "reason": str(error)}
print(json.dumps(answer))
