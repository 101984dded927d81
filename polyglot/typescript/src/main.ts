// Uses a callpark server: a quick call, a slow one that is parked and waited for, the session's
// log, and an error's reason.
//
// CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is what the
// server wrote to its token file.

import { createClient, ConnectError, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BackgroundTasks } from "../gen/callpark/v1/background_tasks_pb.js";
import { State } from "../gen/callpark/v1/task_pb.js";
import { OutputStream, type ToolResult } from "../gen/callpark/v1/tool_pb.js";
import { ToolRunner } from "../gen/callpark/v1/tool_runner_pb.js";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";

const withToken: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${process.env.CALLPARK_TOKEN}`);
  return next(request);
};
const transport = createGrpcTransport({
  baseUrl: process.env.CALLPARK_ENDPOINT ?? "http://127.0.0.1:50051",
  interceptors: [withToken],
  defaultTimeoutMs: 30_000,
});
const tools = createClient(ToolRunner, transport);
const tasks = createClient(BackgroundTasks, transport);

async function main(): Promise<void> {
  // A call that ends within its budget gives its result. Without a session it gets a new one.
  const quick = await tools.runTool({ tool: "bash", arguments: { command: "echo hello; exit 3" } });
  if (quick.outcome.case !== "result") throw new Error("the call gave no result");
  const { exit } = quick.outcome.value;
  console.log(`exit code ${exit.value}, stdout ${JSON.stringify(stdout(quick.outcome.value))}`);
  check(exit.case === "exitCode" && exit.value === 3, "the exit code is another");
  check(stdout(quick.outcome.value) === "hello\n", "the output is another");

  // One that outlasts its budget is parked: it goes on, and can be waited for by its id.
  const slow = await tools.runTool({
    sessionId: quick.sessionId,
    tool: "bash",
    arguments: { command: "sleep 1; echo done" },
    callBudget: { nanos: 100_000_000 },
  });
  if (slow.outcome.case !== "parked") throw new Error("the call was not parked");
  const { backgroundId } = slow.outcome.value;
  console.log(`parked as ${backgroundId}`);
  const { task } = await tasks.wait({ backgroundId });
  if (task?.outcome.case !== "result") throw new Error("the task has no result");
  console.log(`${State[task.state]}, stdout ${JSON.stringify(stdout(task.outcome.value))}`);
  check(task.state === State.SUCCEEDED, "the task ended otherwise");
  check(stdout(task.outcome.value) === "done\n", "its output is another");

  console.log(`events 1 to ${await readLog(tools, quick.sessionId)}, without a gap`);

  // An error says what it is by a reason that stays the same, whatever its message.
  const reason = await tasks.get({ backgroundId: "bg-" + "0".repeat(32) }).then(
    () => "there is such a task",
    (error) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason,
  );
  console.log(`no such task: ${reason}`);
  check(reason === "TASK_NOT_FOUND", "the reason is another");
}

/** Reads what the session's log holds, without waiting for more, and counts the events. */
async function readLog(tools: Client<typeof ToolRunner>, sessionId: string): Promise<bigint> {
  let last = 0n;
  for await (const update of tools.streamSession({ sessionId, follow: false })) {
    for (const event of update.events) {
      check(event.sequence === last + 1n, `an event is missing after ${last}`);
      last = event.sequence;
    }
  }
  check(last > 0n, "the log is empty");
  return last;
}

function stdout(result: ToolResult): string {
  const parts = result.content.filter((part) => part.stream === OutputStream.STDOUT);
  return parts.map((part) => (part.kind.case === "text" ? part.kind.value : "")).join("");
}

function check(holds: boolean, fault: string): void {
  if (!holds) throw new Error(fault);
}

main().catch((error) => {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
