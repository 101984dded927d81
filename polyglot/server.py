"""Starts servers of callpark for the steps of polyglot/run that need models of their own."""

import os
import re
import subprocess
import time

CALLPARK = os.environ["CALLPARK_BIN"]
# Without the settings of the server that polyglot/run has started.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("CALLPARK_")}
DEADLINE = time.monotonic() + 180


def wait_until(holds, process, name):
    """Waits until `holds()` is true, which it returns, and fails if the process ends or takes too long."""
    while not (held := holds()):
        if process.poll() is not None or time.monotonic() > DEADLINE:
            raise SystemExit(f"{name} did not start")
        time.sleep(0.2)
    return held


def find_in(path, pattern):
    """Returns what the group of the pattern matches in a file."""
    with open(path, encoding="utf-8", errors="replace") as file:
        found = re.search(pattern, file.read(), re.MULTILINE)
    return found and found.group(1)


def start_callpark(folder, tables, environment):
    """Starts a server with a configuration file of these tables, and returns its process and the flags
    with which the commands find it."""
    path, data, log = (os.path.join(folder, name) for name in ("callpark.toml", "data", "log"))
    with open(path, "w", encoding="utf-8") as file:
        file.write(tables)
    with open(log, "wb") as err:
        process = subprocess.Popen([CALLPARK, "serve", "--config", path, "--listen", "127.0.0.1:0", "--data-dir", data],
                                   env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, stdout=err, stderr=err)
    address = wait_until(lambda: find_in(log, r"^callpark listens on (\S+)"), process, "callpark")
    return process, ["--endpoint", address, "--token-file", os.path.join(data, "token")]
