"""An MCP server that follows a script, for tests.

    scripted_server.py SCRIPT

SCRIPT is a file with a JSON object:

    tools     the result of `tools/list`, as JSON, or a list of such results by their number, of which the
              last one is repeated
    calls     by the name of a tool, the lines that answer a call of it; `ID` in them stands for the id of
              the call, and `ARGUMENT` for its argument `text`. A tool that is not named here never answers
    begin     a line instead of the answer to `initialize`
"""

import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    SCRIPT = json.load(file)
pages = 0


def send(line):
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")
    sys.stdout.flush()


def answer(request, result):
    send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}))


def list_tools(request):
    global pages
    results = SCRIPT["tools"]
    if isinstance(results, list):
        results = results[min(pages, len(results) - 1)]
        pages += 1
    answer(request, results)


def main():
    for line in sys.stdin:
        message = json.loads(line)
        method = message.get("method")
        if method == "initialize":
            result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                      "serverInfo": {"name": "scripted", "version": "1"}}
            if "begin" in SCRIPT:
                send(SCRIPT["begin"].replace("ID", str(message["id"])))
            else:
                answer(message, result)
        elif method == "tools/list":
            list_tools(message)
        elif method == "tools/call":
            name = message["params"]["name"]
            text = str(message["params"].get("arguments", {}).get("text"))
            for line in SCRIPT.get("calls", {}).get(name, []):
                send(line.replace("ID", str(message["id"])).replace("ARGUMENT", text))
        elif "id" in message and method is not None:
            send(json.dumps({"jsonrpc": "2.0", "id": message["id"],
                             "error": {"code": -32601, "message": "Method not found"}}))


main()
