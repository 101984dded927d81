//! Readers of streams, which note the bytes that they are given.

use bytes::Bytes;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::{Request, Status, Streaming};

use super::recorder::{Recorded, Recorder};
use super::{Asked, CallAsked, Delivery, End, Event, Reading, Reply};
use crate::support::program::Clients;
use crate::support::wire::RawCodec;
use crate::support::{soon, v1};
use v1::session_update::Control;

/// A `SessionUpdate` whose events are left as they came.
#[derive(Clone, PartialEq, Message)]
struct RawUpdate {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    events: Vec<Bytes>,
}

/// A message of a stream.
pub struct Update {
    /// The events.
    pub events: Vec<Event>,
    /// The control message.
    pub control: Option<Control>,
}

/// A stream of a session or a call.
pub struct UpdateStream(Streaming<Bytes>);

impl UpdateStream {
    /// Opens `StreamSession` or `StreamTool`.
    pub async fn open(
        clients: &Clients,
        method: &str,
        request: &impl Message,
    ) -> Result<Self, Status> {
        let mut grpc = Grpc::new(clients.service.clone()).max_decoding_message_size(16 << 20);
        let ready = soon("a connection", grpc.ready()).await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = format!("/callpark.v1.ToolRunner/{method}").parse().expect("a path");
        let request = Request::new(Bytes::from(request.encode_to_vec()));
        let stream = soon("a stream", grpc.server_streaming(request, path, RawCodec)).await?;
        Ok(Self(stream.into_inner()))
    }

    /// The next message; none at the end.
    pub async fn next(&mut self) -> Result<Option<Update>, Status> {
        let Some(bytes) = self.0.message().await? else { return Ok(None) };
        let raw = RawUpdate::decode(bytes.clone()).expect("an update");
        let update = v1::SessionUpdate::decode(bytes).expect("an update");
        let events = raw.events.into_iter().zip(update.events);
        let events = events.map(|(bytes, message)| Event { bytes, message }).collect();
        Ok(Some(Update { events, control: update.control }))
    }
}

/// A reader of one session, which goes on where it has left.
pub struct SessionReader {
    recorder: Recorder,
    session_id: String,
    reader: u64,
    newest: i64,
}

impl SessionReader {
    /// A reader that has nothing.
    pub fn new(recorder: &Recorder, session_id: &str) -> Self {
        let (recorder, reader) = (recorder.clone(), recorder.next_reader());
        Self { recorder, session_id: session_id.to_owned(), reader, newest: 0 }
    }

    /// Reads on: to the end of the stream, until it has so many events more, or until it is to
    /// leave.
    pub async fn read(
        &mut self,
        clients: &Clients,
        follow: bool,
        events_max: usize,
        leave: &CancellationToken,
    ) -> End {
        let after = self.newest;
        let request = v1::StreamSessionRequest {
            session_id: self.session_id.clone(),
            start_after_sequence: Some(after),
            follow: Some(follow),
            ..Default::default()
        };
        let mut delivery = Delivery {
            reader: self.reader,
            session_id: self.session_id.clone(),
            kind: if follow { Reading::Follow(after) } else { Reading::Replay(after) },
            events: Vec::new(),
            caught_up: None,
            end: End::Left,
        };
        match UpdateStream::open(clients, "StreamSession", &request).await {
            Ok(mut stream) => {
                let fill = fill(&mut stream, &mut delivery, events_max);
                let end = leave.run_until_cancelled(fill).await;
                delivery.end = end.unwrap_or(End::Left);
            }
            Err(status) => delivery.end = End::Cut(status.code()),
        }
        self.newest = delivery.events.last().map_or(after, |event| event.message.sequence);
        let end = delivery.end;
        self.recorder.delivered(delivery);
        end
    }

    /// Follows the session to its end, and is cut again and again after so many events.
    pub async fn follow(
        &mut self,
        clients: &Clients,
        events_max: usize,
        leave: &CancellationToken,
    ) {
        while !leave.is_cancelled() {
            match self.read(clients, true, events_max, leave).await {
                End::Left => {}
                End::Ok | End::Cut(_) => return,
            }
        }
    }
}

async fn fill(stream: &mut UpdateStream, delivery: &mut Delivery, events_max: usize) -> End {
    while delivery.events.len() < events_max {
        match stream.next().await {
            Ok(Some(update)) => {
                delivery.events.extend(update.events);
                if let Some(Control::CaughtUp(caught_up)) = update.control {
                    delivery.caught_up = Some(caught_up.head_sequence);
                }
            }
            Ok(None) => return End::Ok,
            Err(status) => return End::Cut(status.code()),
        }
    }
    End::Left
}

impl Recorded {
    /// Runs a call as a stream, and reads it to its end.
    pub async fn stream(&self, request: v1::RunToolRequest) -> Result<Reply, Status> {
        let asked = CallAsked {
            session_id: request.session_id.clone(),
            request_id: request.request_id.clone(),
            mark: request.description.clone(),
            replaces: false,
        };
        let number = self.recorder.ask(Asked::Call(asked));
        let mut delivery = Delivery {
            reader: self.recorder.next_reader(),
            session_id: request.session_id.clone(),
            kind: Reading::Call,
            events: Vec::new(),
            caught_up: None,
            end: End::Left,
        };
        let first = async {
            let mut stream = UpdateStream::open(&self.clients, "StreamTool", &request).await?;
            delivery.end = soon("an event", fill(&mut stream, &mut delivery, 1)).await;
            Ok::<_, Status>(stream)
        };
        let mut stream = match first.await {
            Ok(stream) => stream,
            Err(status) => {
                self.recorder.answer(number, &Err(status.clone()));
                return Err(status);
            }
        };
        let reply = reply(&delivery);
        self.recorder.answer(number, &reply);
        if delivery.end == End::Left {
            delivery.end =
                soon("the end of a call's stream", fill(&mut stream, &mut delivery, usize::MAX))
                    .await;
        }
        self.recorder.delivered(delivery);
        reply
    }
}

/// Returns the reply of the first events. A stream doesn't say whether its request is a repetition.
fn reply(delivery: &Delivery) -> Result<Reply, Status> {
    match (delivery.events.first(), delivery.end) {
        (Some(Event { message, .. }), _) => Ok(Reply {
            session_id: message.session_id.clone(),
            call_id: message.call_id.clone(),
            replayed: true,
            ..Reply::default()
        }),
        (None, End::Cut(code)) => Err(Status::new(code, "cut")),
        (None, end) => panic!("a stream of nothing: {end:?}"),
    }
}
