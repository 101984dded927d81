"""Turns through LiteLLM's proxy, which translates between callpark and other protocols.

The provider behind the proxy is a server of this script. It speaks the protocols of OpenAI and of
Anthropic, refuses what the real ones refuse, and asks for one call of a tool before it answers.
"""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from server import CALLPARK, ENVIRONMENT, start_callpark, wait_until  # noqa: E402

KEY = "sk-" + secrets.token_hex(16)
COMMAND = {"command": "echo 2 + 2 is $((2 + 2))"}


class Refused(Exception):
    """A request that the provider does not accept."""


def require(holds, words):
    if not holds:
        raise Refused(words)


def openai(body):
    """Checks a request in OpenAI's protocol, and returns the events of its answer."""
    require(all("properties" in tool["function"]["parameters"] for tool in body["tools"]), "no properties")
    wanted = set()
    for message in body["messages"]:
        for call in message.get("tool_calls") or []:
            require(isinstance(json.loads(call["function"]["arguments"]), dict), "arguments")
            wanted.add(call["id"])
        if message["role"] == "tool":
            require(message["tool_call_id"] in wanted, "a result without a call")
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "fake"}

    def event(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return "data: " + json.dumps({**chunk, "choices": [choice]}) + "\n\n"

    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    end = "data: " + json.dumps({**chunk, "choices": [], "usage": usage}) + "\n\ndata: [DONE]\n\n"
    result = body["messages"][-1]
    if result["role"] == "tool":
        yield event({"role": "assistant", "content": "It says: " + result["content"]}) + event({}, "stop") + end
        return
    function = {"name": "bash", "arguments": json.dumps(COMMAND)}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    yield event({"role": "assistant", "content": None, "tool_calls": [call]}) + event({}, "tool_calls") + end


def anthropic(body):
    """Checks a request in Anthropic's protocol, and returns the events of its answer."""
    roles = [message["role"] for message in body["messages"]]
    require(roles[0] == "user", "the first message must be the user's")
    require(all(a != b for a, b in zip(roles, roles[1:])), "roles must alternate")
    require(all(tool["input_schema"].get("type") == "object" for tool in body["tools"]), "input_schema")
    asked = []
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        require(blocks and all(block["text"].strip() for block in blocks if block["type"] == "text"), "empty text")
        given = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        require(given == asked, "tool_use ids were found without tool_result blocks immediately after")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]

    def event(kind, **fields):
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    message = {"id": "m", "type": "message", "role": "assistant", "model": "fake", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": {"input_tokens": 10, "output_tokens": 1}}
    yield event("message_start", message=message)
    last = body["messages"][-1]["content"]
    result = last[0] if isinstance(last, list) and last[0]["type"] == "tool_result" else None
    if result:
        text = result["content"] if isinstance(result["content"], str) else result["content"][0]["text"]
        block, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": "It says: " + text}
    else:
        block = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(COMMAND)}
    yield event("content_block_start", index=0, content_block=block)
    yield event("content_block_delta", index=0, delta=delta)
    yield event("content_block_stop", index=0)
    reason = {"stop_reason": "end_turn" if result else "tool_use", "stop_sequence": None}
    yield event("message_delta", delta=reason, usage={"output_tokens": 5})
    yield event("message_stop")


class Provider(BaseHTTPRequestHandler):
    """The provider behind the proxy."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        try:
            answer = anthropic if self.path.endswith("/messages") else openai
            text, status, kind = "".join(answer(body)), 200, "text/event-stream"
        except Refused as refused:
            print("refused:", refused, json.dumps(body["messages"]), file=sys.stderr)
            error = {"type": "error", "error": {"type": "invalid_request_error", "message": str(refused)}}
            text, status, kind = json.dumps(error), 400, "application/json"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_proxy(folder, provider):
    """Starts the proxy, and returns its process and its address."""
    def model(name, target, base):
        return {"model_name": name, "litellm_params": {"model": target, "api_base": base, "api_key": "none"}}

    config = {"model_list": [model("by-openai", "openai/fake", provider + "/v1"),
                             model("by-anthropic", "anthropic/claude-fake", provider)],
              "litellm_settings": {"drop_params": True, "telemetry": False}}
    path = os.path.join(folder, "litellm.yaml")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(config, file)  # YAML has all of JSON.
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    program = os.path.join(os.path.dirname(sys.executable), "litellm")
    environment = {**os.environ, "LITELLM_MASTER_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                   "LITELLM_LOG": "ERROR"}
    process = subprocess.Popen([program, "--config", path, "--host", "127.0.0.1", "--port", str(port)],
                               env=environment, stdin=subprocess.DEVNULL)

    def is_alive():
        try:
            with urllib.request.urlopen(address + "/health/liveliness", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    wait_until(is_alive, process, "the proxy")
    return process, address


def models(proxy):
    """Returns the tables of the proxy's models."""
    return "".join(f'[[models]]\nname = "{name}"\nendpoint = "{proxy}/v1"\napi_key_environment = "LITELLM_API_KEY"\n'
                   for name in ("by-openai", "by-anthropic"))


def chat(server, model):
    """Runs two turns in one session, so that the second one sends a history with a call."""
    session = []
    for number in (1, 2):
        command = [CALLPARK, "chat", *server, "--model", model, *session, f"What is 2 + 2? ({number})"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False)
        if ran.returncode != 0 or "It says: 2 + 2 is 4" not in ran.stdout:
            raise SystemExit(f"{model}, turn {number}: exit code {ran.returncode}\n{ran.stdout}\n{ran.stderr}")
        found = re.search(r"ses-[0-9a-f]+", ran.stdout + ran.stderr)
        session = ["--session", found.group(0)] if found else session
    print(f"{model}: two turns with calls")


def main():
    provider = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            process, proxy = start_proxy(folder, f"http://127.0.0.1:{provider.server_port}")
            processes.append(process)
            process, server = start_callpark(folder, models(proxy), {"LITELLM_API_KEY": KEY})
            processes.append(process)
            for model in ("by-openai", "by-anthropic"):
                chat(server, model)
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


main()
