"""Turns with a real server of llama.cpp, whose model is written by model.py."""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from model import ANSWER, COMMAND, write  # noqa: E402
from server import CALLPARK, ENVIRONMENT, find_in, start_callpark, wait_until  # noqa: E402

KEY = "sk-" + secrets.token_hex(16)
# In tokens, which are bytes here. Two prompts of the size below exceed it.
CONTEXT = 24 * 1024
PROMPT = CONTEXT // 2
# The models of the configuration and what is set for them. The server has one model for all of them.
MODELS = {
    "auto": "",
    "required": 'tool_choice = "required"',
    "none": 'tool_choice = "none"',
    "cut": "max_output_tokens = 45",  # Within the command.
    "every": f'context_tokens = {CONTEXT}\nmax_output_tokens = 500\ntemperature = 0.0\nreasoning_effort = "low"\n'
             'parallel_tool_calls = false\ncall_ids = "short"',
    "stranger": "",
}


def require(holds, words, shown):
    if not holds:
        raise SystemExit(f"{words}\n{shown}")


class Turn:
    """A turn that has ended, and its events."""

    def __init__(self, status, output, err):
        self.shown = f"exit code {status}\n{output}\n{err}"
        self.status = status
        self.events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]

    def all(self, kind):
        return [event[kind] for event in self.events if kind in event]

    def session(self):
        return self.events[0]["sessionId"]

    def calls(self):
        """Returns the ids of the calls that were run."""
        return [event["callId"] for event in self.events if event.get("toolCallStarted", {}).get("tool") == "bash"]

    def output(self, call):
        """Returns the text of the result of a call."""
        ends = [event["toolCallFinished"] for event in self.events
                if event["callId"] == call and "toolCallFinished" in event]
        return "".join(part["text"] for end in ends for part in end["result"]["content"])

    def check(self, holds, words):
        require(holds, words, self.shown)

    def check_failure(self, code, words):
        """Checks the error with which the turn has failed."""
        errors = self.all("sessionError")
        self.check(errors and errors[0]["code"] == code, f"the turn did not fail with {code}")
        self.check(words in errors[0]["message"], f"the error does not say: {words}")
        self.check(self.status != 0, "the exit code is that of a success")


class Chats:
    """Runs turns on one server of callpark."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder

    def start(self, model, session=None):
        """Starts a turn, in a new session or a known one, whose prompt is read from the standard input."""
        place = ["--session", session] if session else ["--working-directory", self.folder]
        command = [CALLPARK, "chat", *self.server, "--json", "--model", model, *place]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)

    def run(self, model, prompt="What is in this folder?", session=None):
        process = self.start(model, session)
        output, err = process.communicate(prompt, timeout=120)
        return Turn(process.returncode, output, err)

    def interrupt(self, model, act):
        """Runs a turn, and calls `act` with its process when the first words of its answer are there."""
        process = self.start(model)
        process.stdin.write("Go on and on.")
        process.stdin.close()
        lines = []
        for line in process.stdout:
            lines.append(line)
            # The answer would go on to the end of the context: these words have been streamed.
            if "assistantDelta" in line and act:
                act(process)
                act = None
        require(not act, "no words of the answer arrived", "".join(lines))
        err = process.stderr.read()
        return Turn(process.wait(120), "".join(lines), err)


def answers_with_the_result_of_a_call(chats):
    for model in ("auto", "every"):
        turn = chats.run(model)
        turn.check(turn.status == 0, "the turn failed")
        turn.check(len(turn.calls()) == 1, "not exactly one call was run")
        accepted = turn.all("toolCallAccepted")[-1]
        turn.check(accepted["arguments"] == {"command": COMMAND}, "the arguments are not those of the model")
        turn.check(turn.output(turn.calls()[0]).strip() == chats.folder, "the command did not run in the folder")
        idle = turn.all("sessionIdle")[0]
        turn.check(idle["finalText"] == ANSWER and idle["usage"]["requests"] == "2", "no answer to the result")
        turn.check(int(idle["usage"]["inputTokens"]) > 0, "llama.cpp's usage was not read")
        # The history with the call is accepted once more.
        turn = chats.run(model, session=turn.session())
        turn.check(turn.status == 0 and len(turn.calls()) == 1, "the second turn failed")


def runs_only_the_calls_that_are_complete(chats):
    turn = chats.run("cut")
    asked = [call for message in turn.all("assistantMessage") for call in message.get("callIds", [])]
    turn.check(len(asked) == 1, "the call was not cut: choose another max_output_tokens")
    turn.check(not turn.calls(), "a call was run whose arguments are not complete")
    turn.check(turn.all("sessionIdle")[0]["finalText"] == ANSWER, "the history with the call was not accepted")


def calls_until_the_last_round_where_it_must(chats):
    turn = chats.run("required")
    turn.check(turn.all("sessionIdle")[0]["stopReason"] == "STOP_REASON_MAX_ROUNDS", "the turn did not go on")
    turn.check(len(turn.calls()) > 10, "there are rounds without a call")


def stops_an_answer_that_is_cancelled(chats, log):
    def cancel(process):
        process.send_signal(signal.SIGINT)
        # The first signal leaves the turn, once it has been read.
        for line in process.stderr:
            if "again cancels" in line:
                break
        process.send_signal(signal.SIGINT)

    turn = chats.interrupt("none", cancel)
    turn.check(turn.status == 125, "the turn was not cancelled")
    # llama.cpp answers one request at a time: when this turn has ended, the log has the end of the last one.
    turn = chats.run("auto")
    turn.check(turn.status == 0, "the turn behind the cancelled one failed")
    turn.check(find_in(log, "(cancel task)"), "llama.cpp went on with the cancelled answer")


def compacts_a_history_that_exceeds_the_context(chats):
    prompt = "word " * (PROMPT // 5)
    first = chats.run("auto", prompt)
    first.check(first.status == 0 and not first.all("historyCompacted"), "the first prompt does not fit")
    turn = chats.run("auto", prompt, first.session())
    turn.check(turn.status == 0, "the turn failed")
    retries = [retry["error"]["message"] for retry in turn.all("turnRetrying")]
    turn.check(len(retries) == 1 and "exceeds the available context size" in retries[0], "llama.cpp did not refuse")
    reasons = [compacted["reason"] for compacted in turn.all("historyCompacted")]
    turn.check(reasons[:1] == ["COMPACTION_REASON_REFUSED"], "the history was not compacted")
    # Nothing can be left out of a first prompt.
    turn = chats.run("auto", "word " * (CONTEXT // 5))
    turn.check_failure("model_context_exceeded", "exceeds the available context size")


def reports_what_is_wrong_with_the_server(chats, llama):
    chats.run("stranger").check_failure("model_unauthenticated", "Invalid API Key")
    turn = chats.interrupt("none", lambda _: llama.kill())
    lost = turn.all("turnRetrying")[0]["error"]["details"][0]["reason"]
    turn.check(lost == "MODEL_CONNECTION", "the lost connection was not reported")
    turn.check_failure("model_connection", "cannot be reached")


def start_llama(folder):
    """Starts llama.cpp's server, and returns its process, its address and its log."""
    model, log = os.path.join(folder, "model.gguf"), os.path.join(folder, "llama.log")
    write(model)
    program = Path(__file__).parent / "llama_server.py"
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, program, model, str(CONTEXT), KEY], stdin=subprocess.PIPE,
                                   stdout=out, stderr=out)
    return process, wait_until(lambda: find_in(log, r"^llama.cpp listens on (\S+)"), process, "llama.cpp"), log


def tables(address):
    """Returns the configuration of the models."""
    def table(name, settings):
        key = "STRANGERS_KEY" if name == "stranger" else "LLAMA_API_KEY"
        return (f'[[models]]\nname = "{name}"\nendpoint = "{address}/v1"\napi_key_environment = "{key}"\n{settings}\n')

    return "".join(table(*item) for item in MODELS.items())


def give_up(*_):
    raise SystemExit("the step takes too long")


def main():
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(240)
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        folder = os.path.realpath(folder)
        try:
            llama, address, log = start_llama(folder)
            processes.append(llama)
            keys = {"LLAMA_API_KEY": KEY, "STRANGERS_KEY": "sk-" + secrets.token_hex(16)}
            process, server = start_callpark(folder, tables(address), keys)
            processes.append(process)
            chats = Chats(server, folder)
            answers_with_the_result_of_a_call(chats)
            runs_only_the_calls_that_are_complete(chats)
            calls_until_the_last_round_where_it_must(chats)
            stops_an_answer_that_is_cancelled(chats, log)
            compacts_a_history_that_exceeds_the_context(chats)
            reports_what_is_wrong_with_the_server(chats, llama)
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)


main()
