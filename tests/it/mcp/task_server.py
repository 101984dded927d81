"""An MCP server over HTTP whose tool `job` is a task, which outlives its client.

    task_server.py FOLDER PROTOCOL

PROTOCOL is 2025-11-25, in which a call asks for a task, or 2026-07-28, in which the server makes one by
itself. Writes its port to standard output. A task ends once there is a file `gate` in FOLDER, and is
unknown while there is a file `forget`. Writes a line into `calls` for each call, and the id of each task
that is cancelled into `cancelled_tasks`.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOLDER, PROTOCOL = sys.argv[1:]
IS_ASKED = PROTOCOL == "2025-11-25"
TASKS = {}


def is_there(name):
    return os.path.exists(os.path.join(FOLDER, name))


def note(name, text):
    with open(os.path.join(FOLDER, name), "a", encoding="utf-8") as file:
        file.write(text + "\n")


def task(name, status, **more):
    times = {"createdAt": "2026-07-28T10:00:00Z", "lastUpdatedAt": "2026-07-28T10:00:00Z"}
    if IS_ASKED:
        return {"taskId": name, "status": status, "pollInterval": 20, "ttl": None, **times, **more}
    return {"taskId": name, "status": status, "pollIntervalMs": 20, "ttlMs": None, **times, **more}


RESULT = {"content": [{"type": "text", "text": "done"}]}


def answer(method, params):
    if method == "server/discover" and not IS_ASKED:
        return {"supportedVersions": [PROTOCOL], "ttlMs": 3600000, "cacheScope": "public",
                "capabilities": {"tools": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}}}
    if method == "initialize" and IS_ASKED:
        return {"protocolVersion": PROTOCOL, "serverInfo": {"name": "tasks", "version": "1"},
                "capabilities": {"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}}}}
    if method == "tools/list":
        support = {"execution": {"taskSupport": "required"}} if IS_ASKED else {}
        return {"tools": [{"name": "job", "inputSchema": {"type": "object"}, **support}]}
    if method == "tools/call":
        note("calls", json.dumps(params.get("arguments")))
        name = f"task {len(TASKS) + 1}"
        TASKS[name] = "working"
        if IS_ASKED:
            return {"task": task(name, "working")}
        return {"resultType": "task", **task(name, "working")}
    if method in ("tasks/get", "tasks/result", "tasks/cancel"):
        name = params["taskId"]
        if is_there("forget") or name not in TASKS:
            return None
        if method == "tasks/cancel":
            note("cancelled_tasks", name)
            return {}
        if method == "tasks/result":
            return RESULT
        if not is_there("gate"):
            return task(name, "working", statusMessage="at work")
        return task(name, "completed", **({} if IS_ASKED else {"result": RESULT}))
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, status, message=None):
        body = b"" if message is None else json.dumps(message).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "id" not in message:
            self.reply(202)
            return
        result = answer(message["method"], message.get("params") or {})
        head = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            is_task = message["method"].startswith("tasks/")
            code, text = (-32602, "Task not found") if is_task else (-32601, "no such method")
            self.reply(200, {**head, "error": {"code": code, "message": text}})
            return
        self.reply(200, {**head, "result": result if IS_ASKED else {"resultType": "complete", **result}})

    def do_GET(self):
        self.reply(405)

    def log_message(self, *_):
        pass


SERVER = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(SERVER.server_address[1], flush=True)
SERVER.serve_forever()
