// Command callpark-example uses a callpark server: a quick call, a slow one that is parked and
// waited for, the session's log, and an error's reason.
//
//	CALLPARK_ENDPOINT  the server, such as http://127.0.0.1:50051
//	CALLPARK_TOKEN     what the server wrote to its token file
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
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
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	target := strings.TrimPrefix(os.Getenv("CALLPARK_ENDPOINT"), "http://")
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	tools, tasks := callpark.NewToolRunnerClient(conn), callpark.NewBackgroundTasksClient(conn)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+os.Getenv("CALLPARK_TOKEN"))

	// A call that ends within its budget gives its result. Without a session it gets a new one.
	quick, err := tools.RunTool(ctx, bash("echo hello; exit 3", "", nil))
	if err != nil {
		return err
	}
	fmt.Printf("exit code %d, stdout %q\n", quick.GetResult().GetExitCode(), stdout(quick.GetResult()))
	if quick.GetResult().GetExitCode() != 3 || stdout(quick.GetResult()) != "hello\n" {
		return errors.New("the call gave something else")
	}

	// One that outlasts its budget is parked: it goes on, and can be waited for by its id.
	budget := durationpb.New(100 * time.Millisecond)
	slow, err := tools.RunTool(ctx, bash("sleep 1; echo done", quick.SessionId, budget))
	if err != nil {
		return err
	}
	id := slow.GetParked().GetBackgroundId()
	if id == "" {
		return errors.New("the call was not parked")
	}
	fmt.Println("parked as", id)
	waited, err := tasks.Wait(ctx, &callpark.WaitRequest{BackgroundId: id})
	if err != nil {
		return err
	}
	fmt.Printf("%v, stdout %q\n", waited.Task.State, stdout(waited.Task.GetResult()))
	if waited.Task.State != callpark.State_STATE_SUCCEEDED || stdout(waited.Task.GetResult()) != "done\n" {
		return errors.New("the task ended otherwise")
	}
	if err := readLog(ctx, tools, quick.SessionId); err != nil {
		return err
	}

	// An error says what it is by a reason that stays the same, whatever its message.
	_, err = tasks.Get(ctx, &callpark.GetRequest{BackgroundId: "bg-" + strings.Repeat("0", 32)})
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Reason == "TASK_NOT_FOUND" {
			fmt.Println("no such task:", info.Reason)
			return nil
		}
	}
	return fmt.Errorf("no ErrorInfo with TASK_NOT_FOUND, but %v", err)
}

// readLog reads what the session's log holds, without waiting for more.
func readLog(ctx context.Context, tools callpark.ToolRunnerClient, session string) error {
	follow, next := false, int64(1)
	stream, err := tools.StreamSession(ctx, &callpark.StreamSessionRequest{SessionId: session, Follow: &follow})
	if err != nil {
		return err
	}
	for {
		update, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		for _, event := range update.Events {
			if event.Sequence != next {
				return fmt.Errorf("event %d came where %d was due", event.Sequence, next)
			}
			next++
		}
	}
	fmt.Printf("events 1 to %d, without a gap\n", next-1)
	if next == 1 {
		return errors.New("the log is empty")
	}
	return nil
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
