"""Consumes follow-ups of finished background tasks, for an agent outside the server.

CALLPARK_ENDPOINT is the server, such as http://127.0.0.1:50051; CALLPARK_TOKEN is the content of the
server's token file. The argument is the number of follow-ups; without one, the program runs until it is
stopped. See README.md.

A follow-up that it does not acknowledge is delivered again when the lease of 60 s has expired.
"""

import os
import sys

import grpc
from callpark.v1.background_tasks_pb2_grpc import BackgroundTasksStub
from callpark.v1.follow_up_pb2 import AcknowledgeFollowUpRequest, FollowUp, LeaseFollowUpsRequest
from google.rpc.status_pb2 import Status

ADDRESS = os.environ["CALLPARK_ENDPOINT"].removeprefix("http://")
TOKEN = (("authorization", f"Bearer {os.environ['CALLPARK_TOKEN']}"),)


def handle(follow_up: FollowUp) -> None:
    """Prompts the agent. To apply each effect once, store follow_up.dedupe_key together with it."""
    print(follow_up.message, flush=True)


def main() -> None:
    left = int(sys.argv[1]) if len(sys.argv) > 1 else -1
    tasks = BackgroundTasksStub(grpc.insecure_channel(ADDRESS))
    while left != 0:
        request = LeaseFollowUpsRequest(consumer="follow_ups.py")  # waits for 60 s
        for lease in tasks.LeaseFollowUps(request, timeout=90, metadata=TOKEN).follow_ups:
            acknowledgement = AcknowledgeFollowUpRequest(
                follow_up_id=lease.follow_up.follow_up_id, lease_token=lease.lease_token
            )
            try:
                handle(lease.follow_up)
            except Exception as error:  # It is delivered again later, up to ten times.
                acknowledgement.error.CopyFrom(Status(code=2, message=repr(error)[:1000]))
            tasks.AcknowledgeFollowUp(acknowledgement, timeout=30, metadata=TOKEN)
            left -= 1


if __name__ == "__main__":
    main()
