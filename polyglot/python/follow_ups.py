"""Tests examples/python/follow_ups.py: it receives the follow-up of a parked call, and a follow-up that
it fails to handle is delivered again.

CALLPARK_ENDPOINT and CALLPARK_TOKEN are as in main.py; PYTHONPATH is the folder of the stubs.
"""

import os
import subprocess
import sys
from pathlib import Path

import grpc
from callpark.v1 import background_tasks_pb2_grpc, follow_up_pb2, task_pb2
from callpark.v1 import tool_runner_pb2, tool_runner_pb2_grpc
from google.protobuf import duration_pb2, struct_pb2

EXAMPLE = Path(__file__).parents[2] / "examples/python/follow_ups.py"
TOKEN = (("authorization", f"Bearer {os.environ['CALLPARK_TOKEN']}"),)
TIMEOUT = 30


def main() -> None:
    target = os.environ["CALLPARK_ENDPOINT"].removeprefix("http://")
    with grpc.insecure_channel(target) as channel:
        tools = tool_runner_pb2_grpc.ToolRunnerStub(channel)
        tasks = background_tasks_pb2_grpc.BackgroundTasksStub(channel)
        arguments = struct_pb2.Struct()
        arguments["command"] = "sleep 1; echo the result"
        request = tool_runner_pb2.RunToolRequest(
            tool="bash",
            arguments=arguments,
            call_budget=duration_pb2.Duration(nanos=100_000_000),
            follow_up=task_pb2.FOLLOW_UP_POLICY_ON_FINISH,
        )
        call = tools.RunTool(request, TIMEOUT, TOKEN)
        check(call.HasField("parked"), "the call was not parked")

        # The device is always full, so that printing the message fails.
        with open("/dev/full", "w") as full:
            consume(stdout=full, stderr=subprocess.DEVNULL)
        record = only_record(tasks, call.session_id)
        check(state(record) == "FOLLOW_UP_STATE_PENDING", f"after a failure it is {state(record)}")
        error = record.last_error.message
        check("No space left" in error, f"the error is {error!r}")

        printed = consume(stdout=subprocess.PIPE, text=True).stdout
        expected = call.parked.background_id in printed and "the result" in printed
        check(expected, f"the example printed {printed!r}")
        record = only_record(tasks, call.session_id)
        check(state(record) == "FOLLOW_UP_STATE_DELIVERED", f"it is {state(record)}")
        check(record.attempt == 2, f"{record.attempt} attempts")
        print(f"{record.follow_up_id} was delivered at the second attempt, after a failure")


def consume(**streams) -> subprocess.CompletedProcess:
    """Runs the example until it has received one follow-up."""
    return subprocess.run([sys.executable, EXAMPLE, "1"], timeout=TIMEOUT, **streams)


def only_record(
    tasks: background_tasks_pb2_grpc.BackgroundTasksStub, session_id: str
) -> follow_up_pb2.FollowUp:
    request = follow_up_pb2.ListFollowUpsRequest(session_id=session_id)
    (record,) = tasks.ListFollowUps(request, TIMEOUT, TOKEN).follow_ups
    return record


def state(record: follow_up_pb2.FollowUp) -> str:
    return follow_up_pb2.FollowUpState.Name(record.state)


def check(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
