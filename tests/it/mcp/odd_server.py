"""An MCP server with odd manners, for tests.

    odd_server.py FOLDER [MANNER]

Its tools misbehave as their names say. What it notices it writes into FOLDER: a line into `starts` for
each of its lives, and into `cancelled` for each cancel that it hears of. With a MANNER it misbehaves
from the start:

    silent    never answers anything
    refuses   answers `initialize` with an error
    leaves    says something to people, and exits with 7
    chatters  writes lines between its messages that are no messages
"""

import json
import os
import sys
import threading
import time

FOLDER = sys.argv[1]
MANNER = sys.argv[2] if len(sys.argv) > 2 else ""
LOCK = threading.Lock()
EXTRA = []


def schema(**properties):
    return {"type": "object", "properties": properties, "required": list(properties)}


TOOLS = [
    {"name": "echo", "description": "Says it again.", "inputSchema": schema(text={"type": "string"}),
     "annotations": {"readOnlyHint": True}},
    {"name": "write", "inputSchema": schema(), "annotations": {"idempotentHint": True, "destructiveHint": False}},
    {"name": "fail", "inputSchema": schema()},
    {"name": "refuse", "inputSchema": schema()},
    {"name": "hang", "inputSchema": schema()},
    {"name": "count", "inputSchema": schema(to={"type": "integer"})},
    {"name": "die", "inputSchema": schema()},
    {"name": "long_line", "inputSchema": schema()},
    {"name": "nonsense", "inputSchema": schema()},
    {"name": "environment", "inputSchema": schema()},
    {"name": "change", "inputSchema": schema()},
    {"name": "structured", "inputSchema": schema(), "outputSchema": schema(sum={"type": "number"})},
    {"name": "no name at all", "inputSchema": schema()},
    {"name": "bad_schema", "inputSchema": {"type": 7}},
]


def note(name, text):
    with open(os.path.join(FOLDER, name), "a", encoding="utf-8") as file:
        file.write(text + "\n")


def send(message):
    with LOCK:
        if MANNER == "chatters":
            sys.stdout.write("this is no message\n{\"nor\": \"is this\"}\n\n")
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def answer(request, result):
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def refuse(request, message):
    send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32603, "message": message}})


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def progress(request, done, total):
    token = request["params"].get("_meta", {}).get("progressToken")
    params = {"progressToken": token, "progress": done, "total": total, "message": f"step {done}"}
    send({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})


def call(request):
    name = request["params"]["name"]
    arguments = request["params"].get("arguments") or {}
    if name == "echo":
        answer(request, text(arguments["text"]))
    elif name == "write":
        answer(request, text("written"))
    elif name == "fail":
        answer(request, text("it went wrong", isError=True))
    elif name == "refuse":
        refuse(request, "not today")
    elif name == "hang":
        pass
    elif name == "count":
        for done in range(1, arguments["to"] + 1):
            progress(request, done, arguments["to"])
            time.sleep(0.05)
        answer(request, text("counted"))
    elif name == "die":
        sys.stderr.write("about to die\nof a broken heart\n")
        sys.stderr.flush()
        os._exit(3)
    elif name == "long_line":
        with LOCK:
            for _ in range(100):
                sys.stdout.write("x" * (1 << 20))
            sys.stdout.write("\n")
            sys.stdout.flush()
    elif name == "nonsense":
        send({"jsonrpc": "2.0", "id": request["id"], "result": {"content": 7}})
    elif name == "environment":
        answer(request, text("\n".join(sorted(os.environ))))
    elif name == "change":
        EXTRA.append({"name": "new", "inputSchema": schema()})
        send({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        answer(request, text("changed"))
    elif name == "new":
        answer(request, text("new"))
    elif name == "structured":
        answer(request, text("3", structuredContent={"sum": 3}))


def initialize(request):
    answer(request, {
        "protocolVersion": request["params"]["protocolVersion"],
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "odd", "version": "1"},
    })


def main():
    note("starts", str(os.getpid()))
    if MANNER == "leaves":
        sys.stderr.write("the licence has run out\n")
        sys.exit(7)
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if MANNER == "silent":
            continue
        if method == "initialize" and MANNER == "refuses":
            refuse(message, "no more clients")
        elif method == "initialize":
            initialize(message)
        elif method == "tools/list":
            # In pages, as it may.
            tools = TOOLS + EXTRA
            begin = int(message.get("params", {}).get("cursor") or 0)
            page = {"tools": tools[begin:begin + 5]}
            if begin + 5 < len(tools):
                page["nextCursor"] = str(begin + 5)
            answer(message, page)
        elif method == "tools/call":
            threading.Thread(target=call, args=(message,), daemon=True).start()
        elif method == "notifications/cancelled":
            note("cancelled", str(message["params"].get("reason")))
        elif method == "ping":
            answer(message, {})


main()
