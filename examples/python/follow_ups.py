"""Hears of background tasks that end, and hands each to an agent that lives outside the server.

CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is what the server
wrote to its token file. It goes on until it is stopped, or for as many follow-ups as its argument
says. One that it didn't acknowledge is handed out again when the lease, of 60 s, has run out.
"""

import os
import sys

import grpc
from callpark.v1 import background_tasks_pb2_grpc
from callpark.v1.follow_up_pb2 import AcknowledgeFollowUpRequest, FollowUp, LeaseFollowUpsRequest
from google.rpc.status_pb2 import Status

TOKEN = (("authorization", f"Bearer {os.environ['CALLPARK_TOKEN']}"),)


def handle(follow_up: FollowUp) -> None:
    """What stands here prompts the agent. One that must not hear of a task twice remembers the
    dedupe_key."""
    print(follow_up.message, flush=True)


def main() -> None:
    left = int(sys.argv[1]) if len(sys.argv) > 1 else -1
    with grpc.insecure_channel(os.environ["CALLPARK_ENDPOINT"].removeprefix("http://")) as channel:
        tasks = background_tasks_pb2_grpc.BackgroundTasksStub(channel)
        while left != 0:
            # Waits for 60 s, then answers without any.
            request = LeaseFollowUpsRequest(consumer="follow_ups.py")
            for lease in tasks.LeaseFollowUps(request, timeout=90, metadata=TOKEN).follow_ups:
                error = None
                try:
                    handle(lease.follow_up)
                except Exception as exception:
                    # It is handed out again later, up to ten times in all.
                    error = Status(code=2, message=repr(exception)[:1000])
                acknowledgement = AcknowledgeFollowUpRequest(
                    follow_up_id=lease.follow_up.follow_up_id,
                    lease_token=lease.lease_token,
                    error=error,
                )
                tasks.AcknowledgeFollowUp(acknowledgement, timeout=30, metadata=TOKEN)
                left -= 1


if __name__ == "__main__":
    main()
