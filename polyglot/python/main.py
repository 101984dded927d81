"""Uses a callpark server: a quick call, a slow one that is parked and waited for, the session's
log, and an error's reason.

CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is what the server
wrote to its token file. The stubs in gen/ are made by:

    python -m grpc_tools.protoc -I ../../proto --python_out=gen --grpc_python_out=gen \
        ../../proto/callpark/v1/*.proto
"""

import os
import sys
from pathlib import Path

import grpc
from google.protobuf import duration_pb2, struct_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

sys.path.insert(0, str(Path(__file__).parent / "gen"))

from callpark.v1 import background_tasks_pb2, background_tasks_pb2_grpc  # noqa: E402
from callpark.v1 import task_pb2, tool_pb2, tool_runner_pb2, tool_runner_pb2_grpc  # noqa: E402

TOKEN = (("authorization", f"Bearer {os.environ['CALLPARK_TOKEN']}"),)
TIMEOUT = 30


def main() -> None:
    target = os.environ["CALLPARK_ENDPOINT"].removeprefix("http://")
    with grpc.insecure_channel(target) as channel:
        tools = tool_runner_pb2_grpc.ToolRunnerStub(channel)
        tasks = background_tasks_pb2_grpc.BackgroundTasksStub(channel)

        # A call that ends within its budget gives its result. Without a session it gets a new one.
        quick = tools.RunTool(bash("echo hello; exit 3"), TIMEOUT, TOKEN)
        print(f"exit code {quick.result.exit_code}, stdout {stdout(quick.result)!r}")
        check(quick.result.exit_code == 3, "the exit code is another")
        check(stdout(quick.result) == "hello\n", "the output is another")

        # One that outlasts its budget is parked: it goes on, and can be waited for by its id.
        budget = duration_pb2.Duration(nanos=100_000_000)
        slow = tools.RunTool(
            bash("sleep 1; echo done", session_id=quick.session_id, call_budget=budget),
            TIMEOUT,
            TOKEN,
        )
        check(slow.HasField("parked"), "the call was not parked")
        print("parked as", slow.parked.background_id)
        wait = background_tasks_pb2.WaitRequest(background_id=slow.parked.background_id)
        task = tasks.Wait(wait, TIMEOUT, TOKEN).task
        print(f"{task_pb2.State.Name(task.state)}, stdout {stdout(task.result)!r}")
        check(task.state == task_pb2.STATE_SUCCEEDED, "the task ended otherwise")
        check(stdout(task.result) == "done\n", "its output is another")

        print(f"events 1 to {read_log(tools, quick.session_id)}, without a gap")

        # An error says what it is by a reason that stays the same, whatever its message.
        try:
            tasks.Get(background_tasks_pb2.GetRequest(background_id="bg-" + "0" * 32), TIMEOUT, TOKEN)
            sys.exit("error: there is such a task")
        except grpc.RpcError as error:
            print("no such task:", reason(error))
            check(reason(error) == "TASK_NOT_FOUND", "the reason is another")


def read_log(tools: tool_runner_pb2_grpc.ToolRunnerStub, session_id: str) -> int:
    """Reads what the session's log holds, without waiting for more, and counts the events."""
    request = tool_runner_pb2.StreamSessionRequest(session_id=session_id, follow=False)
    last = 0
    for update in tools.StreamSession(request, TIMEOUT, TOKEN):
        for event in update.events:
            check(event.sequence == last + 1, f"an event is missing after {last}")
            last = event.sequence
    check(last > 0, "the log is empty")
    return last


def bash(command: str, **fields) -> tool_runner_pb2.RunToolRequest:
    arguments = struct_pb2.Struct()
    arguments["command"] = command
    return tool_runner_pb2.RunToolRequest(tool="bash", arguments=arguments, **fields)


def stdout(result: tool_pb2.ToolResult) -> str:
    stream = tool_pb2.OUTPUT_STREAM_STDOUT
    return "".join(part.text for part in result.content if part.stream == stream)


def reason(error: grpc.RpcError) -> str:
    """The reason in grpc-status-details-bin."""
    info = error_details_pb2.ErrorInfo()
    for detail in rpc_status.from_call(error).details:
        if detail.Unpack(info):
            return info.reason
    return "none"


def check(holds: bool, fault: str) -> None:
    if not holds:
        sys.exit(f"error: {fault}")


if __name__ == "__main__":
    main()
