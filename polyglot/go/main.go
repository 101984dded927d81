// Command callpark-example uses a callpark server: a quick call, a slow call that is parked and waited
// for, the session's log, and the reason of an error.
//
//	CALLPARK_ENDPOINT  the server, such as http://127.0.0.1:50051
//	CALLPARK_TOKEN     the content of the server's token file
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	callpark "example.com/callpark-example/gen/callpark/v1"
)

func main() {
	log.SetFlags(0)
	target := strings.TrimPrefix(os.Getenv("CALLPARK_ENDPOINT"), "http://")
	conn := must(grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials())))
	tools, tasks := callpark.NewToolRunnerClient(conn), callpark.NewBackgroundTasksClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("CALLPARK_TOKEN"))

	fmt.Println("callpark", must(tools.GetServerInfo(ctx, &callpark.GetServerInfoRequest{})).Version)

	// A call that ends within its budget returns its result. Without a session it gets a new one.
	quick := must(tools.RunTool(ctx, bash("echo hello; exit 3", "", nil)))
	result := quick.GetResult()
	fmt.Printf("exit code %d, stdout %q\n", result.GetExitCode(), stdout(result))
	check(result.GetExitCode() == 3, "the exit code is not 3")
	check(stdout(result) == "hello\n", "the output is not hello")

	// A call that takes longer than its budget is parked. It keeps running, and its id is enough to
	// wait for it.
	budget := durationpb.New(100 * time.Millisecond)
	slow := must(tools.RunTool(ctx, bash("sleep 1; echo done", quick.SessionId, budget)))
	check(slow.GetParked() != nil, "the call was not parked")
	id := slow.GetParked().BackgroundId
	fmt.Println("parked as", id)
	task := must(tasks.Wait(ctx, &callpark.WaitRequest{BackgroundId: id})).Task
	fmt.Printf("%v, stdout %q\n", task.EndReason, stdout(task.GetResult()))
	check(task.State == callpark.State_STATE_SUCCEEDED, "the task did not succeed")
	check(task.EndReason == callpark.EndReason_END_REASON_COMPLETED, "the task did not complete")
	check(stdout(task.GetResult()) == "done\n", "the output is not done")

	fmt.Printf("events 1 to %d, without a gap\n", readLog(ctx, tools, quick.SessionId))

	// Programs read the reason of an error, which is stable. Its message is for people.
	unknown := "bg-" + strings.Repeat("0", 32)
	_, err := tasks.Get(ctx, &callpark.GetRequest{BackgroundId: unknown})
	reason, details := errorInfo(err)
	fmt.Println(reason, details["background_id"])
	check(reason == callpark.ErrorReason_ERROR_REASON_TASK_NOT_FOUND, "the reason is not TASK_NOT_FOUND")
	check(details["background_id"] == unknown, "the error names another task")
}

// readLog reads the session's log up to its newest event, and returns the number of events.
func readLog(ctx context.Context, tools callpark.ToolRunnerClient, session string) (last int64) {
	follow := false
	request := &callpark.StreamSessionRequest{SessionId: session, Follow: &follow}
	updates := must(tools.StreamSession(ctx, request))
	for {
		update, err := updates.Recv()
		if err == io.EOF {
			check(last > 0, "the log is empty")
			return last
		}
		for _, event := range must(update, err).Events {
			check(event.Sequence == last+1, fmt.Sprint("an event is missing after ", last))
			last = event.Sequence
		}
	}
}

func bash(command, session string, budget *durationpb.Duration) *callpark.RunToolRequest {
	arguments := must(structpb.NewStruct(map[string]any{"command": command}))
	return &callpark.RunToolRequest{
		SessionId: session, Tool: "bash", Arguments: arguments, CallBudget: budget,
	}
}

func stdout(result *callpark.ToolResult) string {
	var text strings.Builder
	for _, part := range result.GetContent() {
		if part.Stream == callpark.OutputStream_OUTPUT_STREAM_STDOUT {
			text.WriteString(part.GetText())
		}
	}
	return text.String()
}

// errorInfo returns the reason and the metadata that every error of callpark has. A reason that is
// newer than these stubs is UNSPECIFIED.
func errorInfo(err error) (callpark.ErrorReason, map[string]string) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			value := callpark.ErrorReason_value["ERROR_REASON_"+info.Reason]
			return callpark.ErrorReason(value), info.Metadata
		}
	}
	return callpark.ErrorReason_ERROR_REASON_UNSPECIFIED, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal("error: ", err)
	}
	return value
}

func check(condition bool, message string) {
	if !condition {
		log.Fatal("error: ", message)
	}
}
