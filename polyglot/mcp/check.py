"""Calls tools of real MCP servers through the program of CALLPARK_BIN.

The servers of the table below are in the configuration of the server that CALLPARK_ENDPOINT names.
"""

import json
import os
import subprocess
import sys
import time

FOLDER = os.environ["MCP_FOLDER"]


def callpark(*words):
    ran = subprocess.run([os.environ["CALLPARK_BIN"], *words], capture_output=True, text=True, timeout=120)
    if ran.returncode != 0:
        sys.exit(f"{words} ended with {ran.returncode}: {ran.stdout[-500:]}{ran.stderr[-500:]}")
    return ran.stdout


def check(what, good, seen=""):
    if not good:
        sys.exit(f"{what}: {str(seen)[:500]}")
    print(what)


def big(server, kib):
    text = callpark("run", f"{server}__text", f"kib={kib}")
    expected = "".join(f"{number:062}\n" + "\n" for number in range(kib * 16))
    check(f"{server}: {kib} KiB of text", text == expected, len(text))


def main():
    # A list waits for slow servers for 10 s only, and their starts go on.
    limit = time.monotonic() + 120
    listed = json.loads(callpark("tools", "--json"))
    while listed.get("unavailable") and time.monotonic() < limit:
        listed = json.loads(callpark("tools", "--json"))
    names = {tool["name"] for tool in listed["tools"]}
    check("all servers list their tools", not listed.get("unavailable"), listed.get("unavailable"))

    check("python: add", callpark("run", "python__add", "a=2", "b=3").strip() == "5")
    big("python", 190)
    check("python: progress", "done" in callpark("run", "python__slow", "steps=3"))
    read = callpark("run", "python__read_resource", "uri=notes://today")
    check("python: a resource", "remember the milk" in read, read)
    got = callpark("run", "python__get_prompt", "name=review", 'arguments={"change": "42"}')
    check("python: a prompt", "Review 42." in got, got)

    big("fastmcp", 190)
    check("fastmcp: a table", "row" in callpark("run", "fastmcp__table", "rows=3"))
    absent = {"fastmcp__read_resource", "fastmcp__get_prompt"} & names
    check("fastmcp: no tools for what it doesn't have", not absent, absent)

    check("typescript: add", callpark("run", "typescript__add", "a=2", "b=3").strip() == "5")
    linked = callpark("run", "--json", "typescript__link")
    check("typescript: a link", "Annual report" in linked, linked)

    path = os.path.join(FOLDER, "hello.txt")
    callpark("run", "files__write_file", f"path={path}", "content=hello")
    check("filesystem: write and read", "hello" in callpark("run", "files__read_text_file", f"path={path}"))

    log = callpark("run", "git__git_log", f"repo_path={FOLDER}/repository")
    check("git: the log of a repository", "first commit" in log, log)

    found = callpark("run", "everything__simulate-research-query", "topic=parking")
    check("everything: a tool that runs as a task", "parking" in found, found)
    check("everything: echo", "hello" in callpark("run", "everything__echo", "message=hello"))
    resource = callpark("run", "everything__read_resource")
    check("everything: resources", "demo://" in resource, resource)


main()
