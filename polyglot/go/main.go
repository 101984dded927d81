// Command callpark-example uses a callpark server: a quick call, a slow one that is parked and
// waited for, the session's log, and an error's reason.
//
//	CALLPARK_ENDPOINT  the server, such as http://127.0.0.1:50051
//	CALLPARK_TOKEN     what the server wrote to its token file
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

	// A call that ends within its budget gives its result. Without a session it gets a new one.
	quick := must(tools.RunTool(ctx, bash("echo hello; exit 3", "", nil)))
	result := quick.GetResult()
	fmt.Printf("exit code %d, stdout %q\n", result.GetExitCode(), stdout(result))
	check(result.GetExitCode() == 3 && stdout(result) == "hello\n", "the result is another")

	// One that outlasts its budget is parked: it goes on, and can be waited for by its id.
	budget := durationpb.New(100 * time.Millisecond)
	slow := must(tools.RunTool(ctx, bash("sleep 1; echo done", quick.SessionId, budget)))
	check(slow.GetParked() != nil, "the call was not parked")
	id := slow.GetParked().BackgroundId
	fmt.Println("parked as", id)
	task := must(tasks.Wait(ctx, &callpark.WaitRequest{BackgroundId: id})).Task
	fmt.Printf("%v, stdout %q\n", task.State, stdout(task.GetResult()))
	check(task.State == callpark.State_STATE_SUCCEEDED, "the task ended otherwise")
	check(stdout(task.GetResult()) == "done\n", "its output is another")

	fmt.Printf("events 1 to %d, without a gap\n", readLog(ctx, tools, quick.SessionId))

	// An error says what it is by a reason that stays the same, whatever its message.
	_, err := tasks.Get(ctx, &callpark.GetRequest{BackgroundId: "bg-" + strings.Repeat("0", 32)})
	fmt.Println("no such task:", reason(err))
	check(reason(err) == "TASK_NOT_FOUND", "the reason is another")
}

// readLog reads what the session's log holds, without waiting for more, and counts the events.
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
	arguments := &structpb.Struct{Fields: map[string]*structpb.Value{"command": structpb.NewStringValue(command)}}
	return &callpark.RunToolRequest{SessionId: session, Tool: "bash", Arguments: arguments, CallBudget: budget}
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

// reason is the one in grpc-status-details-bin.
func reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason
		}
	}
	return "none"
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal("error: ", err)
	}
	return value
}

func check(holds bool, fault string) {
	if !holds {
		log.Fatal("error: ", fault)
	}
}
