"""Uses a callpark server: a quick call, a slow call that is parked and waited for, the session's log,
and the reason of an error.

CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is the content of the
server's token file. The stubs in gen/ are made by:

    python -m grpc_tools.protoc -I ../../proto --python_out=gen --grpc_python_out=gen \
        ../../proto/callpark/v1/*.proto
"""

import os
import sys
from pathlib import Path

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

sys.path.insert(0, str(Path(__file__).parent / "gen"))

from callpark.v1 import content_pb2, result_pb2, task_pb2  # noqa: E402
from callpark.v1.background_tasks_pb2 import GetRequest, WaitRequest  # noqa: E402
from callpark.v1.background_tasks_pb2_grpc import BackgroundTasksStub  # noqa: E402
from callpark.v1.server_info_pb2 import GetServerInfoRequest  # noqa: E402
from callpark.v1.tool_runner_pb2 import RunToolRequest, StreamSessionRequest  # noqa: E402
from callpark.v1.tool_runner_pb2_grpc import ToolRunnerStub  # noqa: E402

TOKEN = (("authorization", f"Bearer {os.environ['CALLPARK_TOKEN']}"),)
TIMEOUT = 30


def main() -> None:
    target = os.environ["CALLPARK_ENDPOINT"].removeprefix("http://")
    with grpc.insecure_channel(target) as channel:
        tools, tasks = ToolRunnerStub(channel), BackgroundTasksStub(channel)
        print("callpark", tools.GetServerInfo(GetServerInfoRequest(), TIMEOUT, TOKEN).version)

        # A call that ends within its budget returns its result. Without a session it gets a new one.
        quick = tools.RunTool(bash("echo hello; exit 3"), TIMEOUT, TOKEN)
        print(f"exit code {quick.result.exit_code}, stdout {stdout(quick.result)!r}")
        check(quick.result.exit_code == 3, "the exit code is not 3")
        check(stdout(quick.result) == "hello\n", "the output is not hello")

        # A call that takes longer than its budget is parked. It keeps running, and its id is enough to
        # wait for it.
        budget = Duration(nanos=100_000_000)
        slow = bash("sleep 1; echo done", session_id=quick.session_id, call_budget=budget)
        parked = tools.RunTool(slow, TIMEOUT, TOKEN).parked
        check(parked.background_id != "", "the call was not parked")
        print("parked as", parked.background_id)
        task = tasks.Wait(WaitRequest(background_id=parked.background_id), TIMEOUT, TOKEN).task
        print(f"{result_pb2.EndReason.Name(task.end_reason)}, stdout {stdout(task.result)!r}")
        check(task.state == task_pb2.STATE_SUCCEEDED, "the task did not succeed")
        check(task.end_reason == result_pb2.END_REASON_COMPLETED, "the task did not complete")
        check(stdout(task.result) == "done\n", "the output is not done")

        print(f"events 1 to {read_log(tools, quick.session_id)}, without a gap")

        # Programs read the reason of an error, which is stable. Its message is for people.
        unknown = "bg-" + "0" * 32
        try:
            tasks.Get(GetRequest(background_id=unknown), TIMEOUT, TOKEN)
            sys.exit("error: the unknown task exists")
        except grpc.RpcError as error:
            info = error_info(error)
        print(info.reason, info.metadata["background_id"])
        check(info.reason == "TASK_NOT_FOUND", "the reason is not TASK_NOT_FOUND")
        check(info.metadata["background_id"] == unknown, "the error names another task")


def read_log(tools: ToolRunnerStub, session_id: str) -> int:
    """Reads the session's log up to its newest event, and returns the number of events."""
    request = StreamSessionRequest(session_id=session_id, follow=False)
    last = 0
    for update in tools.StreamSession(request, TIMEOUT, TOKEN):
        for event in update.events:
            check(event.sequence == last + 1, f"an event is missing after {last}")
            last = event.sequence
    check(last > 0, "the log is empty")
    return last


def bash(command: str, **fields) -> RunToolRequest:
    arguments = Struct()
    arguments["command"] = command
    return RunToolRequest(tool="bash", arguments=arguments, **fields)


def stdout(result: result_pb2.ToolResult) -> str:
    stream = content_pb2.OUTPUT_STREAM_STDOUT
    return "".join(part.text for part in result.content if part.stream == stream)


def error_info(error: grpc.RpcError) -> ErrorInfo:
    """Returns the detail that every error of callpark has. error_reason.proto lists the reasons."""
    info = ErrorInfo()
    for detail in rpc_status.from_call(error).details:
        if detail.Unpack(info):
            break
    return info


def check(condition: bool, message: str) -> None:
    if not condition:
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    main()
