"""Runs an MLflow server that never outlives the program that started it.

    python -I -c LAUNCHER DATABASE ARTIFACTS unix SOCKET
    python -I -c LAUNCHER DATABASE ARTIFACTS tcp HOST PORT [PREFIX]

Whoever starts this holds the other end of stdin. When that end closes, which the operating system does however its
holder died, everything in this process group ends: politely first, then for good. On Unix this must be started as the
leader of a process group of its own.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading

PATIENCE = 5  # seconds between SIGTERM and SIGKILL
ENDING = threading.Lock()


def command(database, artifacts, kind, *where):
    server = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    server += ["--backend-store-uri", "sqlite:///" + database]
    # A path, not a URI: Python clients that open the database itself find the files without a server.
    server += ["--default-artifact-root", artifacts, "--artifacts-destination", artifacts]
    if kind == "unix":
        return server + ["--uvicorn-opts", "--uds " + shlex.quote(where[0])]
    host, port, *prefix = where
    server += ["--host", host, "--port", port]
    return server + (["--static-prefix", prefix[0]] if prefix else [])


def environment():
    """The user's, without what would make this another server than the one that was asked for."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "_MLFLOW_", "PYTHON"))}
    ours.update(
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        MLFLOW_DISABLE_TELEMETRY="true",
        PYTHONNOUSERSITE="1",
        PYTHONUNBUFFERED="1",
    )
    return ours


def stop(server, is_orphaned=False):
    ENDING.acquire()  # for good: both threads may come here, and one is enough
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(server.pid)], capture_output=True)
        os._exit(0)
    os.killpg(0, signal.SIGTERM)
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pass
    if is_orphaned and sys.argv[3] == "unix":
        # Whoever was killed could not remove the private folder of its socket.
        shutil.rmtree(os.path.dirname(sys.argv[4]), ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # this process too


def watch(server):
    while os.read(0, 4096):
        pass
    stop(server, is_orphaned=True)


def main():
    # Handlers, not SIG_IGN, which the server would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    server = subprocess.Popen(command(*sys.argv[1:]), env=environment(), stdin=subprocess.DEVNULL)
    threading.Thread(target=watch, args=[server], daemon=True).start()
    code = server.wait()
    print(f"the server ended with code {code}", flush=True)
    stop(server)


main()
