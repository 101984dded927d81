// Uses a callpark server: a quick call, a slow call that is parked and waited for, the session's log,
// and the reason of an error.
//
// CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is the content of
// the server's token file.

import { createClient, ConnectError, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

import { BackgroundTasks } from "../gen/callpark/v1/background_tasks_pb.js";
import { OutputStream } from "../gen/callpark/v1/content_pb.js";
import { ErrorReason } from "../gen/callpark/v1/error_reason_pb.js";
import { EndReason, type ToolResult } from "../gen/callpark/v1/result_pb.js";
import { State } from "../gen/callpark/v1/task_pb.js";
import { ToolRunner } from "../gen/callpark/v1/tool_runner_pb.js";
import { ErrorInfoSchema, type ErrorInfo } from "../gen/google/rpc/error_details_pb.js";

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
  console.log(`callpark ${(await tools.getServerInfo({})).version}`);

  // A call that ends within its budget returns its result. Without a session it gets a new one.
  const quick = await tools.runTool({ tool: "bash", arguments: { command: "echo hello; exit 3" } });
  if (quick.outcome.case !== "result") throw new Error("the call returned no result");
  const { exit } = quick.outcome.value;
  console.log(`exit code ${exit.value}, stdout ${JSON.stringify(stdout(quick.outcome.value))}`);
  check(exit.case === "exitCode" && exit.value === 3, "the exit code is not 3");
  check(stdout(quick.outcome.value) === "hello\n", "the output is not hello");

  // A call that takes longer than its budget is parked. It keeps running, and its id is enough to wait
  // for it.
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
  console.log(`${EndReason[task.endReason]}, stdout ${JSON.stringify(stdout(task.outcome.value))}`);
  check(task.state === State.SUCCEEDED, "the task did not succeed");
  check(task.endReason === EndReason.COMPLETED, "the task did not complete");
  check(stdout(task.outcome.value) === "done\n", "the output is not done");

  console.log(`events 1 to ${await readLog(tools, quick.sessionId)}, without a gap`);

  // Programs read the reason of an error, which is stable. Its message is for people.
  const unknown = "bg-" + "0".repeat(32);
  const info = await tasks.get({ backgroundId: unknown }).then(() => undefined, errorInfo);
  if (info === undefined) throw new Error("the unknown task exists");
  console.log(`${info.reason} ${info.metadata["background_id"]}`);
  check(reason(info) === ErrorReason.TASK_NOT_FOUND, "the reason is not TASK_NOT_FOUND");
  check(info.metadata["background_id"] === unknown, "the error names another task");
}

/** Reads the session's log up to its newest event, and returns the number of events. */
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

/** Returns the detail that every error of callpark has. */
function errorInfo(error: unknown): ErrorInfo | undefined {
  return ConnectError.from(error).findDetails(ErrorInfoSchema)[0];
}

/** Returns the reason as a value of the enum, or `undefined` if it is newer than these stubs. */
function reason(info: ErrorInfo): ErrorReason | undefined {
  return ErrorReason[info.reason as keyof typeof ErrorReason];
}

function check(condition: boolean, message: string): void {
  if (!condition) throw new Error(message);
}

main().catch((error) => {
  console.error(`error: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
});
