//! The actions of the clients.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callpark_client::{
    Client, ClientOptions, Error, RunOutcome, SessionItem, TaskHandle, WaitLimit, v1,
};
use futures::{Stream, StreamExt as _};
use prost_types::value::Kind;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::sleep;
use uuid::Uuid;

use crate::history::{History, Reply, Seen, Story};
use crate::network::{SERVER, connector};
use crate::server::{HEARTBEAT, KEEPALIVE};
use crate::tool::WORK;

/// Calls of one caller.
const CALLS: usize = 6;

/// The world of a client.
#[derive(Clone)]
pub struct World {
    pub history: Arc<Mutex<History>>,
    /// Callers that haven't finished. The last one closes the session.
    pub callers_left: Arc<AtomicUsize>,
}

impl World {
    fn note<T>(&self, change: impl FnOnce(&mut History) -> T) -> T {
        change(&mut self.history.lock().expect("no panic"))
    }
}

/// A client that never gives up: a run says itself when that took too long.
fn client() -> Result<Client, Error> {
    let options = ClientOptions::new(format!("http://{SERVER}"))
        .with_start_attempts(u32::MAX)
        .with_resume_attempts(u32::MAX)
        .with_backoff(Duration::from_millis(50))
        .with_backoff_max(Duration::from_secs(1))
        .with_heartbeat_interval(HEARTBEAT)
        .with_connect_timeout(Duration::from_secs(2))
        .with_keepalive_interval(KEEPALIVE[0])
        .with_keepalive_timeout(KEEPALIVE[1]);
    Client::with_connector(options, connector())
}

/// The one session, made by the first client that needs it.
async fn session(client: &Client) -> Result<String, Error> {
    let request_id = Uuid::from_u128(1).to_string();
    let request = v1::CreateSessionRequest { request_id, ..Default::default() };
    let answer = client.sessions().create(request).await?;
    Ok(answer.session.unwrap_or_default().session_id)
}

/// Follows the session to its end, and pauses now and then.
pub async fn follow(world: World, number: usize, mut random: StdRng) -> turmoil::Result {
    let client = client()?;
    let session_id = session(&client).await?;
    let request = v1::StreamSessionRequest { session_id, ..Default::default() };
    let mut stream = client.sessions().events(request);
    loop {
        let seen = see(&mut stream).await;
        let is_over = !matches!(seen, Seen::Item(_));
        world.note(|history| history.followers[number].push(seen));
        if is_over {
            return Ok(());
        }
        if random.random_bool(0.05) {
            sleep(Duration::from_millis(random.random_range(0..3_000))).await;
        }
    }
}

async fn see(stream: &mut (impl Stream<Item = Result<SessionItem, Error>> + Unpin)) -> Seen {
    match stream.next().await {
        Some(Ok(item)) => Seen::Item(item),
        Some(Err(error)) => Seen::Error(error.to_string()),
        None => Seen::End,
    }
}

/// Makes calls, one after the other, and follows each to its end.
pub async fn call(world: World, number: usize, mut random: StdRng) -> turmoil::Result {
    let client = client()?;
    let session_id = session(&client).await?;
    for call in 0..CALLS {
        sleep(Duration::from_millis(random.random_range(0..4_000))).await;
        let mark = format!("{number}-{call}");
        let work = Asking::new(&session_id, &mark, &mut random);
        let story = match random.random_range(0..5) {
            0 => work.run(&client, 1).await,
            1 => work.run(&client, 2).await,
            2 => work.start(&client).await,
            3 => work.cancel(&client, &mut random).await,
            _ => work.stream(&client).await,
        };
        world.note(|history| history.calls.insert(mark, story));
    }
    if world.callers_left.fetch_sub(1, Ordering::Relaxed) == 1 {
        client
            .sessions()
            .close(v1::CloseSessionRequest { session_id, ..Default::default() })
            .await?;
    }
    Ok(())
}

/// A call that a client makes.
struct Asking {
    session_id: String,
    mark: String,
    request_id: String,
    arguments: prost_types::Struct,
    call_budget: Option<prost_types::Duration>,
}

impl Asking {
    fn new(session_id: &str, mark: &str, random: &mut StdRng) -> Self {
        let number = |number: u32| Kind::NumberValue(number.into());
        let fields = [
            ("mark", Kind::StringValue(mark.to_owned())),
            ("milliseconds", number(random.random_range(0..5_000))),
            ("reports", number(random.random_range(0..20))),
        ];
        let value = |kind| prost_types::Value { kind: Some(kind) };
        let fields = fields.into_iter().map(|(name, kind)| (name.to_owned(), value(kind)));
        let budget = Duration::from_millis(random.random_range(0..3_000));
        Self {
            session_id: session_id.to_owned(),
            mark: mark.to_owned(),
            request_id: Uuid::from_u128(random.random()).to_string(),
            arguments: prost_types::Struct { fields: fields.collect() },
            call_budget: prost_types::Duration::try_from(budget).ok(),
        }
    }

    fn request(self) -> v1::RunToolRequest {
        v1::RunToolRequest {
            session_id: self.session_id,
            request_id: self.request_id,
            tool: WORK.into(),
            arguments: Some(self.arguments),
            description: self.mark,
            call_budget: self.call_budget,
            ..Default::default()
        }
    }

    /// Runs the call, and sends the same request again, so many times in all. Waits for its end.
    async fn run(self, client: &Client, times: usize) -> Story {
        let mut story = Story::default();
        let request = self.request();
        for _ in 0..times {
            match client.tools().run(request.clone()).await {
                Ok(RunOutcome::Finished(call)) => story.note(Ok(Reply {
                    call_id: call.call_id,
                    state: None,
                    result: Some(call.result),
                })),
                Ok(RunOutcome::Parked(parked)) => {
                    let call_id = parked.call_id().unwrap_or_default().to_owned();
                    story.note(Ok(Reply { call_id, ..Reply::default() }));
                    wait(&parked, &mut story).await;
                }
                Ok(other) => story.errors.push(format!("{other:?}")),
                Err(error) => story.note(Err(error)),
            }
        }
        story
    }

    async fn background(self, client: &Client, story: &mut Story) -> Option<TaskHandle> {
        let call = v1::RunToolRequest { call_budget: None, ..self.request() };
        let work = Some(v1::start_request::Work::ToolCall(call));
        let request = v1::StartRequest { work, ..Default::default() };
        match client.tasks().start(request).await {
            Ok(answer) => {
                let id = answer.task.as_ref().map(|task| task.background_id.clone());
                story.note(Ok(Reply::of_task(answer.task)));
                id.map(|id| client.tasks().handle(id))
            }
            Err(error) => {
                story.note(Err(error));
                None
            }
        }
    }

    /// Starts the call in the background and waits for its end.
    async fn start(self, client: &Client) -> Story {
        let mut story = Story::default();
        if let Some(parked) = self.background(client, &mut story).await {
            wait(&parked, &mut story).await;
        }
        story
    }

    /// Starts the call in the background, cancels it, and waits for its end.
    async fn cancel(self, client: &Client, random: &mut StdRng) -> Story {
        let mut story = Story::default();
        if let Some(parked) = self.background(client, &mut story).await {
            sleep(Duration::from_millis(random.random_range(0..3_000))).await;
            let answer = parked.cancel("no longer needed").await;
            story.note(answer.map(|answer| Reply::of_task(answer.task)));
            wait(&parked, &mut story).await;
        }
        story
    }

    /// Runs the call as a stream.
    async fn stream(self, client: &Client) -> Story {
        let mut stream = client.tools().stream(self.request());
        let mut seen = Vec::new();
        loop {
            seen.push(see(&mut stream).await);
            if !matches!(seen.last(), Some(Seen::Item(_))) {
                return Story { stream: Some(seen), ..Story::default() };
            }
        }
    }
}

async fn wait(parked: &TaskHandle, story: &mut Story) {
    let answer = parked.wait(WaitLimit::Unbounded).await;
    story.note(answer.map(|answer| Reply::of_task(answer.task)));
}
