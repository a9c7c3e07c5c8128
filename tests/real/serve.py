"""Starts a real server with a tiny model, runs the tests of this folder against it, and ends it.

    python -m tests.real.serve PYTHON_OF_THE_SERVERS_ENVIRONMENT FOLDER

`make real-server` does so. The exit code is that of the tests.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

START_S = 240
HERE = Path(__file__).parent


def main(python: Path, folder: Path) -> int:
    """Returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    home = folder / "home"
    (home / "hub").mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",  # it has nothing to look for elsewhere
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": "1",
    }
    write = [python, HERE / "tiny_model.py", model]
    subprocess.run(write, env=environment, check=True, stderr=subprocess.DEVNULL)
    port = _free_port()
    log = folder / "server.log"
    serve = [python.with_name("transformers"), "serve", model, "--device", "cpu"]
    serve += ["--host", "127.0.0.1", "--port", str(port)]
    began = time.monotonic()
    with log.open("wb") as out:
        server = subprocess.Popen(serve, env=environment, stdout=out, stderr=out)
        try:
            _wait(server, f"http://127.0.0.1:{port}/health", log)
            print(f"the server answers after {time.monotonic() - began:.0f} s", flush=True)
            tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE]
            told = {
                "LORIMER_REAL_SERVER": f"http://127.0.0.1:{port}/v1",
                "LORIMER_REAL_MODEL": str(model),
            }
            return subprocess.run(tests, env={**os.environ, **told}).returncode
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(START_S):
        if server.poll() is not None:
            raise SystemExit(
                f"the server ended at once:\n{log.read_text(errors='replace')[-3000:]}"
            )
        try:
            with urlopen(url, timeout=5):
                return
        except (OSError, HTTPException):
            time.sleep(1)
    raise SystemExit(f"the server did not answer within {START_S} s: see {log}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute()))
