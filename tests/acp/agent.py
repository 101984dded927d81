"""An agent that speaks ACP over its pipes, and does what its prompt says, a line each."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

manner = sys.argv[1] if len(sys.argv) > 1 else ""
sessions = {}
next_request = 1000
server = {}
bridge = None
crowd = []


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def update(session, about, **fields):
    content = {"sessionUpdate": about, **fields}
    send({"method": "session/update", "params": {"sessionId": session, "update": content}})


def text(said):
    return {"type": "text", "text": said}


def say(session, said):
    update(session, "agent_message_chunk", content=text(said))


def ask(method, params):
    """Asks callpark, and waits for the answer."""
    global next_request
    next_request += 1
    send({"id": next_request, "method": method, "params": params})
    while True:
        message = receive()
        if message.get("id") == next_request and "method" not in message:
            return message


def call(session, kind, title, **fields):
    update(session, "tool_call", toolCallId="t1", title=title, kind=kind, status="pending", **fields)


def output(session, said, **fields):
    content = [{"type": "content", "content": text(said)}]
    update(session, "tool_call_update", toolCallId="t1", content=content, **fields)


def ask_bridge(message):
    """Sends a line to the bridge, and waits for the answer if it is a request."""
    bridge.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    bridge.stdin.flush()
    return json.loads(bridge.stdout.readline() or "null") if "id" in message else None


def start_bridge(token):
    global bridge
    variables = {v["name"]: v["value"] for v in server["env"]}
    if token is not None:
        variables["CALLPARK_MCP_TOKEN"] = token
    argv = [server["command"], *server["args"]]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    bridge = subprocess.Popen(argv, env={**os.environ, **variables}, **pipes)
    info = {"name": "agent", "version": "1"}
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info}
    answer = ask_bridge({"id": 1, "method": "initialize", "params": params})
    if answer is not None:
        ask_bridge({"method": "notifications/initialized"})
    return answer


def mcp(method, params, token=None):
    """Asks callpark's MCP server."""
    if "command" in server:
        if (bridge is None or token is not None) and start_bridge(token) is None:
            return {"closed": True}
        return ask_bridge({"id": 2, "method": method, "params": params})
    headers = {h["name"]: h["value"] for h in server.get("headers", [])}
    if token is not None:
        headers["Authorization"] = "Bearer " + token
    headers["Content-Type"] = "application/json"
    headers["Accept"] = "application/json, text/event-stream"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(server["url"], body, headers)
    try:
        answer = urllib.request.urlopen(request, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return {"status": error.code}
    for line in answer.splitlines():
        line = line.removeprefix("data:").strip()
        if line.startswith("{"):
            return json.loads(line)
    return {"unread": answer}


def address():
    """The host and the port of callpark's MCP server, or of that for bridges."""
    if "command" in server:
        place = {v["name"]: v["value"] for v in server["env"]}["CALLPARK_MCP_ADDRESS"]
    else:
        place = server["url"].split("/")[2]
    host, _, port = place.rpartition(":")
    return host, int(port)


def count(session, sent):
    with open(sessions[session]["cwd"] + "/sent", "w") as file:
        file.write(str(sent))


def cancelled(session):
    while True:
        message = receive()
        if message.get("method") == "session/cancel":
            return message["params"]["sessionId"] == session


def step(session, words):
    """One line of a prompt; what it gives back is why the turn ends."""
    name, _, rest = words.partition(" ")
    if name == "say":
        say(session, rest)
    elif name == "think":
        update(session, "agent_thought_chunk", content=text(rest))
    elif name == "plan":
        update(session, "plan", entries=[])
    elif name == "pid":
        say(session, str(os.getpid()))
    elif name == "prompt":
        say(session, json.dumps(sessions[session]["prompt"]))
    elif name == "cwd":
        say(session, sessions[session]["cwd"])
    elif name == "session":
        say(session, session)
    elif name == "growing":
        call(session, "execute", "count", rawInput={"command": "count"})
        output(session, "line 1\n", status="in_progress")
        output(session, "line 1\nline 2\n")
        output(session, "line 1\nline 2\n<exit 0>\n", status="completed")
    elif name == "rewriting":
        call(session, "execute", "count")
        output(session, "old\n")
        output(session, "new\n")
        output(session, "new\nmore\n", status="completed")
    elif name == "failing":
        call(session, "read", "look", rawInput={"path": "/x"})
        failure = {"message": "no such file", "code": "failure"}
        update(session, "tool_call_update", toolCallId="t1", status="failed", rawOutput=failure)
    elif name == "late":
        call(session, "execute", "Terminal", rawInput={})
        update(session, "tool_call_update", toolCallId="t1", title="`ls`", rawInput={"command": "ls"},
               locations=[{"path": "/x", "line": 3}])
        output(session, "file\n", status="completed")
    elif name == "last":
        call(session, "execute", "Terminal", rawInput={})
        output(session, "file\n", status="completed", title="`ls`", rawInput={"command": "ls"})
    elif name == "never":
        call(session, "execute", "Terminal")
    elif name == "after":
        call(session, "execute", "Terminal", rawInput={})
        output(session, "file\n")
        output(session, "file\n", title="`ls`", rawInput={"command": "ls"})
        output(session, "file\n", status="completed")
    elif name == "unended":
        call(session, "execute", "count")
        output(session, "line 1\n")
    elif name == "ours":
        call(session, "other", "callpark-echo")
        output(session, "never reported\n", status="completed")
    elif name == "may":
        kinds = ["reject_always", "allow_always", "reject_once", "allow_once"]
        options = [{"optionId": f"o{k}", "name": "Yes", "kind": k} for k in kinds]
        asked = {"toolCallId": "p1", "title": rest, "kind": rest}
        params = {"sessionId": session, "toolCall": asked, "options": options}
        say(session, json.dumps(ask("session/request_permission", params)["result"]))
    elif name == "files":
        params = {"sessionId": session, "path": "/etc/hostname"}
        say(session, str(ask("fs/read_text_file", params)["error"]["code"]))
        params = {"sessionId": session, "command": "ls"}
        say(session, " " + str(ask("terminal/create", params)["error"]["code"]))
    elif name == "tools":
        say(session, json.dumps(mcp("tools/list", {})))
    elif name == "echo":
        say(session, json.dumps(mcp("tools/call", {"name": "echo", "arguments": {"text": rest}})))
    elif name == "intrude":
        say(session, json.dumps(mcp("tools/list", {}, token="guessed")))
    elif name == "crowd":
        # Connections that send nothing.
        crowd.extend(socket.create_connection(address()) for _ in range(int(rest)))
        say(session, "crowded")
    elif name == "later":
        # Calls a tool when the turn is over, and records the answer.
        if os.fork() == 0:
            time.sleep(0.5)
            answer = mcp("tools/call", {"name": "echo", "arguments": {"text": "late"}})
            with open(rest + ".new", "w") as file:
                file.write(json.dumps(answer))
            os.rename(rest + ".new", rest)
            os._exit(0)
    elif name == "wait":
        say(session, "waiting")
        assert cancelled(session)
        return "cancelled"
    elif name == "stubborn":
        say(session, "waiting")
        while True:
            time.sleep(60)
    elif name == "die":
        sys.stderr.write("the reason is written here\n")
        sys.stderr.flush()
        os._exit(7)
    elif name == "long":
        sys.stdout.write("x" * 100_000_000)
        sys.stdout.flush()
    elif name == "flood":
        for number in range(int(rest)):
            say(session, "0123456789" * 1000)
            sys.stderr.write(f"{number}\n")
            sys.stderr.flush()
            count(session, number + 1)
    elif name == "nag":
        # It reads none of the answers.
        params = {"sessionId": session, "path": "x" * 1000}
        for number in range(int(rest)):
            send({"id": f"nag {number}", "method": "fs/read_text_file", "params": params})
            count(session, number + 1)
    elif name == "error":
        return {"code": int(rest), "message": "no"}
    elif name == "stop":
        return rest
    return None


def prompt(request):
    session = request["params"]["sessionId"]
    held = sessions[session]
    held["prompt"] = [block.get("text", block["type"]) for block in request["params"]["prompt"]]
    reason = "end_turn"
    for line in held["prompt"][-1].splitlines():
        reason = step(session, line) or reason
    if isinstance(reason, dict):
        return send({"id": request["id"], "error": reason})
    held["turns"] += 1
    turns = held["turns"]
    usage = {"inputTokens": 100 * turns, "outputTokens": 10 * turns, "cachedReadTokens": 40 * turns}
    usage["totalTokens"] = usage["inputTokens"] + usage["outputTokens"]
    send({"id": request["id"], "result": {"stopReason": reason, "usage": usage}})


def main():
    global server
    if manner == "garbage":
        sys.stdout.write("Welcome to the agent!\n")
        sys.stdout.flush()
    if manner == "exits":
        sys.stderr.write("no licence was found\n")
        sys.exit(3)
    while True:
        message = receive()
        method = message.get("method")
        if method == "initialize" and manner not in ("silent", "garbage"):
            capabilities = {
                "mcpCapabilities": {"http": manner != "no-http"},
                "promptCapabilities": {"image": True},
            }
            version = 99 if manner == "version" else 1
            result = {"protocolVersion": version, "agentCapabilities": capabilities}
            send({"id": message["id"], "result": result})
        elif method == "session/new" and manner == "login":
            error = {"code": -32000, "message": "Authentication required"}
            send({"id": message["id"], "error": error})
        elif method == "session/new":
            name = f"s{len(sessions) + 1}"
            sessions[name] = {"turns": 0, "cwd": message["params"]["cwd"]}
            server = (message["params"]["mcpServers"] or [{}])[0]
            if manner == "eager" and server:
                mcp("tools/list", {})
            send({"id": message["id"], "result": {"sessionId": name}})
        elif method == "session/prompt":
            prompt(message)


main()
