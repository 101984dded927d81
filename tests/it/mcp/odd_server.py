"""An MCP server with odd manners, for tests.

    odd_server.py FOLDER [MANNER]

Its tools misbehave as their names say. What it notices it writes into FOLDER: a line into `starts` for
each of its lives, into `cancelled` for each cancel that it receives, into `cancelled_tasks` for each of
a task, and into `listens` for each who listens to what changes. With a MANNER it misbehaves from the
start:

    silent    never answers anything
    refuses   answers `initialize` with an error
    leaves    says something to people, and exits with 7
    chatters  writes lines between its messages that are no messages
    deaf      leaves what it doesn't know without an answer, and pings
    late      answers what it doesn't know once it has been initialized
    old       exits with 9 if it isn't initialized first
    tasks     speaks the protocol without `initialize`, and has tasks
    slow      does so too, and says it when it is pinged
    handles   speaks it, offers no tasks, and has them all the same
    library   has resources and prompts
    shelves   says so, and has none
    awaits    starts when the file `go` is in FOLDER, and writes a line into `lives` before and after
"""

import json
import os
import sys
import threading
import time

FOLDER = sys.argv[1]
MANNER = sys.argv[2] if len(sys.argv) > 2 else ""
MODERN = MANNER in ("tasks", "slow", "handles")
TASKS = "io.modelcontextprotocol/tasks"
SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"
# As a picture begins.
PNG = "iVBORw0KGgo="
LOCK = threading.Lock()
EXTRA = []
# What is to come of each task, one act for each look at it.
ACTS = {}
LISTENERS = []
LATE = []
# The answers to its own requests, by their ids.
REPLIES = {}
REPLIED = threading.Condition()


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
    {"name": "hang_up", "inputSchema": schema()},
    {"name": "long_line", "inputSchema": schema()},
    {"name": "nonsense", "inputSchema": schema()},
    {"name": "environment", "inputSchema": schema()},
    {"name": "change", "inputSchema": schema()},
    {"name": "structured", "inputSchema": schema(), "outputSchema": schema(sum={"type": "number"})},
    {"name": "picture", "inputSchema": schema()},
    {"name": "no name at all", "inputSchema": schema()},
    {"name": "bad_schema", "inputSchema": {"type": 7}},
    {"name": "job", "inputSchema": {"type": "object", "properties": {
        "acts": {"type": "array"}, "interval": {"type": "integer"}, "ttl": {"type": "integer"}}}},
    {"name": "notify", "inputSchema": schema()},
    {"name": "big", "inputSchema": schema(lines={"type": "integer"})},
    {"name": "ask", "inputSchema": schema()},
    {"name": "link", "inputSchema": schema()},
    {"name": "research", "inputSchema": schema(states={"type": "array"}),
     "execution": {"taskSupport": "required"}},
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
    if MODERN:
        result = {"resultType": "complete", **result}
    send({"jsonrpc": "2.0", "id": request["id"], "result": result})


def refuse(request, message, code=-32603):
    send({"jsonrpc": "2.0", "id": request["id"], "error": {"code": code, "message": message}})


def notify(method, params):
    send({"jsonrpc": "2.0", "method": method, "params": params})


def text(value, **more):
    return {"content": [{"type": "text", "text": value}], **more}


def progress(request, done, total):
    token = request["params"].get("_meta", {}).get("progressToken")
    params = {"progressToken": token, "progress": done, "total": total, "message": f"step {done}"}
    notify("notifications/progress", params)


def task(name, status, **more):
    arguments = ACTS[name]["arguments"]
    return {"taskId": name, "status": status, "createdAt": "2026-07-28T10:00:00Z",
            "lastUpdatedAt": "2026-07-28T10:00:00Z", "ttlMs": arguments.get("ttl"),
            "pollIntervalMs": arguments.get("interval", 1), **more}


def ask(method, params):
    """The answer to a request of its own."""
    with REPLIED:
        name = f"own {len(REPLIES) + 1}"
        REPLIES[name] = None
    send({"jsonrpc": "2.0", "id": name, "method": method, "params": params})
    with REPLIED:
        REPLIED.wait_for(lambda: REPLIES[name])
        return REPLIES[name]


def start_task(request, arguments):
    declared = request["params"]["_meta"].get("io.modelcontextprotocol/clientCapabilities", {})
    if TASKS not in declared.get("extensions", {}):
        refuse(request, "this needs the tasks extension", -32021)
        return
    name = f"task {len(ACTS) + 1}"
    ACTS[name] = {"arguments": arguments, "acts": list(arguments["acts"])}
    answer(request, {"resultType": "task", **task(name, "working", statusMessage="accepted")})


def look_at_task(request):
    name = request["params"]["taskId"]
    acts = ACTS[name]["acts"]
    # The last act goes on for ever.
    act = acts.pop(0) if len(acts) > 1 else acts[0]
    if act == "completed":
        answer(request, task(name, act, result=text("done")))
    elif act == "completed with an error":
        answer(request, task(name, "completed", result=text("it went wrong", isError=True)))
    elif act == "completed with nonsense":
        answer(request, task(name, "completed", result={"content": 7}))
    elif act == "failed":
        answer(request, task(name, act, error={"code": -32000, "message": "out of paper"}))
    elif act == "cancelled":
        answer(request, task(name, act, statusMessage="the shop has closed"))
    elif act == "input_required":
        form = {"message": "Your name?", "requestedSchema": {"type": "object", "properties": {}}}
        asked = {"name": {"method": "elicitation/create", "params": {"mode": "form", **form}}}
        answer(request, task(name, act, inputRequests=asked))
    elif act == "forgotten":
        refuse(request, "Task not found", -32602)
    elif act == "refused":
        refuse(request, "try later")
    elif act == "nonsense":
        answer(request, {"taskId": 7})
    elif act == "another":
        answer(request, {**task(name, "working"), "taskId": "task of another"})
    elif act == "death":
        os._exit(3)
    else:
        answer(request, task(name, "working", statusMessage=act))


def wait_for_go():
    while not os.path.exists(os.path.join(FOLDER, "go")):
        time.sleep(0.01)


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
        if not MODERN:
            notify("notifications/tools/list_changed", {})
        for listener in LISTENERS:
            notify("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: listener}})
        answer(request, text("changed"))
    elif name == "new":
        answer(request, text("new"))
    elif name == "structured":
        answer(request, text("3", structuredContent={"sum": 3}))
    elif name == "picture":
        if arguments.get("waits"):
            wait_for_go()
        image = {"type": "image", "data": PNG, "mimeType": "image/png"}
        answer(request, {"content": [{"type": "text", "text": "look"}, image]})
    elif name == "job":
        start_task(request, arguments)
    elif name == "big":
        lines = "".join(f"line {number:09}\n" for number in range(arguments["lines"]))
        answer(request, text(lines, structuredContent={"result": lines}))
    elif name == "ask":
        form = {"message": "Your name?", "requestedSchema": {"type": "object", "properties": {}}}
        elicited = ask("elicitation/create", form)
        question = {"role": "user", "content": {"type": "text", "text": "Who am I?"}}
        sampled = ask("sampling/createMessage", {"messages": [question], "maxTokens": 9})
        answer(request, text(f'{elicited["result"]["action"]} {"error" in sampled}'))
    elif name == "link":
        answer(request, {"content": [{
            "type": "resource_link", "uri": "file:///report.pdf", "name": "report", "size": 512,
            "title": "Annual report", "description": "For the board.", "mimeType": "application/pdf",
            "annotations": {"audience": ["user"], "priority": 0.5}}]})
    elif name == "notify":
        for name in ACTS:
            notify("notifications/tasks", task(name, "working"))
        answer(request, text("sent"))


def research(request):
    """Tasks of 2025-11-25, of which there is one at a time."""
    method, params = request["method"], request["params"]
    if method == "tools/call":
        ACTS["research"] = list(params["arguments"]["states"])
        answer(request, {"task": {"taskId": "research", "status": "working", "pollInterval": 1,
                                  "createdAt": "2026-07-28T10:00:00Z", "ttl": params["task"]["ttl"],
                                  "lastUpdatedAt": "2026-07-28T10:00:00Z"}})
    elif method == "tasks/get":
        states = ACTS[params["taskId"]]
        status, _, message = (states.pop(0) if len(states) > 1 else states[0]).partition(" ")
        if status == "refused":
            refuse(request, "try later")
        elif status == "forgotten":
            refuse(request, "Task not found", -32602)
        else:
            answer(request, {"taskId": "research", "status": status, "statusMessage": message, "ttl": None,
                             "createdAt": "2026-07-28T10:00:00Z", "lastUpdatedAt": "2026-07-28T10:00:00Z"})
    elif method == "tasks/result" and ACTS[params["taskId"]] == ["failed"]:
        refuse(request, "out of paper", -32000)
    elif method == "tasks/result":
        answer(request, text("found"))
    else:
        cancel_task(request)


def library(request):
    method, params = request["method"], request.get("params") or {}
    has = MANNER == "library"
    if method == "resources/list":
        notes = {"uri": "file:///notes.txt", "name": "notes", "description": "The notes."}
        answer(request, {"resources": [notes] if has else []})
    elif method == "resources/templates/list":
        table = {"uriTemplate": "db://{table}", "name": "table"}
        answer(request, {"resourceTemplates": [table] if has else []})
    elif method == "prompts/list":
        arguments = [{"name": "change", "required": True}, {"name": "tone"}]
        review = {"name": "review", "description": "Reviews a change.", "arguments": arguments}
        answer(request, {"prompts": [review] if has else []})
    elif method == "resources/read" and params["uri"] == "file:///picture.png":
        picture = {"uri": params["uri"], "mimeType": "image/png", "blob": PNG}
        answer(request, {"contents": [picture]})
    elif method == "resources/read" and params["uri"] == "file:///notes.txt":
        answer(request, {"contents": [{"uri": params["uri"], "text": "remember the milk\n"}]})
    elif method == "resources/read":
        refuse(request, "no such resource", -32002)
    else:
        said = f'Review {params["arguments"]["change"]}.'
        message = {"role": "user", "content": {"type": "text", "text": said}}
        answer(request, {"description": "A review", "messages": [message]})


def initialize(request):
    for other in LATE:
        refuse(other, "Method not found", -32601)
    capabilities = {"tools": {"listChanged": True}}
    if MANNER in ("library", "shelves"):
        capabilities.update(resources={}, prompts={})
    answer(request, {
        "protocolVersion": request["params"]["protocolVersion"],
        "capabilities": capabilities,
        "serverInfo": {"name": "odd", "version": "1"},
    })


def discover(request):
    capabilities = {"tools": {"listChanged": True}}
    if MANNER != "handles":
        capabilities["extensions"] = {TASKS: {}}
    answer(request, {"supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                     "ttlMs": 3600000, "cacheScope": "public"})


def listen(request):
    LISTENERS.append(request["id"])
    wanted = request["params"]["notifications"]
    notify("notifications/subscriptions/acknowledged",
         {"notifications": wanted, "_meta": {SUBSCRIPTION: request["id"]}})
    note("listens", json.dumps(wanted))


def cancel_task(request):
    note("cancelled_tasks", request["params"]["taskId"])
    answer(request, {})


def modern(message):
    """Whether it is something that only the newer protocol knows."""
    method = message.get("method")
    known = {"server/discover": discover, "subscriptions/listen": listen, "tasks/get": look_at_task,
             "tasks/cancel": cancel_task}
    if not MODERN or method not in known:
        return False
    if MANNER == "slow" and not LATE:
        LATE.append(message)
        return True
    known[method](message)
    return True


def unknown(message):
    if "id" not in message or MANNER == "deaf":
        return
    if MANNER == "late":
        LATE.append(message)
    else:
        refuse(message, "Method not found", -32601)


def main():
    note("starts", str(os.getpid()))
    if MANNER == "leaves":
        sys.stderr.write("the licence has run out\n")
        sys.exit(7)
    if MANNER == "awaits":
        note("lives", "starts")
        wait_for_go()
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if "method" not in message:
            with REPLIED:
                # An error about a line that is no message has no id.
                REPLIES[message.get("id")] = message
                REPLIED.notify_all()
            continue
        if MANNER == "awaits" and method == "tools/list" and "cursor" not in message.get("params", {}):
            note("lives", "started")
        if MANNER == "silent" or modern(message):
            continue
        if MANNER == "old" and method == "server/discover":
            sys.exit(9)
        if method == "initialize" and MANNER == "refuses":
            refuse(message, "no more clients")
        elif method == "initialize" and not MODERN:
            initialize(message)
        elif method == "tools/list":
            # In pages, as it may.
            tools = TOOLS + EXTRA
            begin = int(message.get("params", {}).get("cursor") or 0)
            page = {"tools": tools[begin:begin + 5]}
            if begin + 5 < len(tools):
                page["nextCursor"] = str(begin + 5)
            # A client may keep it for an hour, unless it is notified of a change.
            answer(message, {**page, "ttlMs": 3600000, "cacheScope": "public"} if MODERN else page)
        elif method.startswith(("resources/", "prompts/")) and MANNER in ("library", "shelves"):
            library(message)
        elif not MODERN and (method.startswith("tasks/") or "task" in message.get("params", {})):
            research(message)
        elif method == "tools/call" and message["params"]["name"] == "hang_up":
            os.close(0)
            answer(message, text("bye"))
            time.sleep(0.3)
            os._exit(3)
        elif method == "tools/call":
            threading.Thread(target=call, args=(message,), daemon=True).start()
        elif method == "notifications/cancelled":
            note("cancelled", str(message["params"].get("reason")))
        elif method == "ping" and MANNER == "slow":
            refuse(message, "Method not found", -32601)
            discover(LATE[0])
        elif method == "ping" and MANNER != "deaf":
            answer(message, {})
        else:
            unknown(message)


main()
