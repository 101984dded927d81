package example;

import com.google.protobuf.*;
import com.google.rpc.ErrorInfo;
import dev.callpark.v1.*;
import io.grpc.*;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Uses a callpark server: a quick call, a slow call that is parked and waited for, the session's log,
 * and the reason of an error.
 *
 * <p>CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is the content of
 * the server's token file.
 */
public final class Main {
  private final ToolRunnerGrpc.ToolRunnerBlockingStub tools;
  private final BackgroundTasksGrpc.BackgroundTasksBlockingStub tasks;

  private Main(Channel channel) {
    tools = ToolRunnerGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
    tasks = BackgroundTasksGrpc.newBlockingStub(channel).withDeadlineAfter(30, TimeUnit.SECONDS);
  }

  public static void main(String[] args) throws Exception {
    String target = variable("CALLPARK_ENDPOINT").replaceFirst("^http://", "");
    var authorization = Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);
    var headers = new Metadata();
    headers.put(authorization, "Bearer " + variable("CALLPARK_TOKEN"));
    ManagedChannel channel =
        Grpc.newChannelBuilder(target, InsecureChannelCredentials.create())
            .intercept(MetadataUtils.newAttachHeadersInterceptor(headers))
            .build();
    try {
      new Main(channel).run();
    } finally {
      channel.shutdownNow().awaitTermination(5, TimeUnit.SECONDS);
    }
  }

  private void run() throws Exception {
    var info = tools.getServerInfo(GetServerInfoRequest.getDefaultInstance());
    System.out.println("callpark " + info.getVersion());

    // A call that ends within its budget returns its result. Without a session it gets a new one.
    RunToolResponse quick = tools.runTool(bash("echo hello; exit 3", "").build());
    ToolResult result = quick.getResult();
    System.out.printf("exit code %d, stdout %s", result.getExitCode(), stdout(result));
    check(result.getExitCode() == 3, "the exit code is not 3");
    check(stdout(result).equals("hello\n"), "the output is not hello");

    // A call that takes longer than its budget is parked. It keeps running, and its id is enough to
    // wait for it.
    Duration budget = Duration.newBuilder().setNanos(100_000_000).build();
    String session = quick.getSessionId();
    var request = bash("sleep 1; echo done", session).setCallBudget(budget).build();
    RunToolResponse slow = tools.runTool(request);
    check(slow.hasParked(), "the call was not parked");
    String id = slow.getParked().getBackgroundId();
    System.out.println("parked as " + id);
    Task task = tasks.wait(WaitRequest.newBuilder().setBackgroundId(id).build()).getTask();
    System.out.printf("%s, stdout %s", task.getEndReason(), stdout(task.getResult()));
    check(task.getState() == State.STATE_SUCCEEDED, "the task did not succeed");
    check(task.getEndReason() == EndReason.END_REASON_COMPLETED, "the task did not complete");
    check(stdout(task.getResult()).equals("done\n"), "the output is not done");

    System.out.printf("events 1 to %d, without a gap%n", readLog(session));

    // Programs read the reason of an error, which is stable. Its message is for people.
    String unknown = "bg-" + "0".repeat(32);
    try {
      tasks.get(GetRequest.newBuilder().setBackgroundId(unknown).build());
      throw new IllegalStateException("the unknown task exists");
    } catch (StatusRuntimeException exception) {
      ErrorInfo error = errorInfo(exception);
      String named = error.getMetadataOrDefault("background_id", "");
      System.out.println(error.getReason() + " " + named);
      check(error.getReason().equals("TASK_NOT_FOUND"), "the reason is not TASK_NOT_FOUND");
      check(named.equals(unknown), "the error names another task");
    }
  }

  /** Reads the session's log up to its newest event, and returns the number of events. */
  private long readLog(String session) {
    var request = StreamSessionRequest.newBuilder().setSessionId(session).setFollow(false);
    long last = 0;
    for (var updates = tools.streamSession(request.build()); updates.hasNext(); ) {
      for (SessionEvent event : updates.next().getEventsList()) {
        check(event.getSequence() == last + 1, "an event is missing after " + last);
        last = event.getSequence();
      }
    }
    check(last > 0, "the log is empty");
    return last;
  }

  private static RunToolRequest.Builder bash(String command, String session) {
    var text = Value.newBuilder().setStringValue(command).build();
    var arguments = Struct.newBuilder().putFields("command", text);
    return RunToolRequest.newBuilder().setSessionId(session).setTool("bash").setArguments(arguments);
  }

  private static String stdout(ToolResult result) {
    return result.getContentList().stream()
        .filter(part -> part.getStream() == OutputStream.OUTPUT_STREAM_STDOUT)
        .map(Content::getText)
        .collect(Collectors.joining());
  }

  /** Returns the detail that every error of callpark has. error_reason.proto lists the reasons. */
  private static ErrorInfo errorInfo(StatusRuntimeException exception) throws Exception {
    for (Any detail : StatusProto.fromThrowable(exception).getDetailsList()) {
      if (detail.is(ErrorInfo.class)) return detail.unpack(ErrorInfo.class);
    }
    return ErrorInfo.getDefaultInstance();
  }

  private static String variable(String name) {
    return Objects.requireNonNull(System.getenv(name), name + " is not set");
  }

  private static void check(boolean condition, String message) {
    if (!condition) throw new IllegalStateException(message);
  }
}
