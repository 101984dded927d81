//! Streams of one turn.

use callpark_client::{RunTurn, v1};
use callpark_proto::v1::session_event::Payload;

use crate::{
    fake::{Fake, Step},
    story::{delivered, event, event_with, send, unavailable},
};

fn request() -> RunTurn {
    RunTurn::new("well?")
}

#[tokio::test(start_paused = true)]
async fn after_an_interruption_the_same_request_attaches_to_the_same_turn() {
    let ends = [
        Payload::SessionIdle(v1::SessionIdle::default()),
        Payload::SessionError(v1::SessionError::default()),
        Payload::SessionShutdown(v1::SessionShutdown::default()),
    ];
    for end in ends {
        let fake = Fake::start();
        let end = event_with(9, end);
        fake.stream_turn.plays([
            vec![send([event(4), event(7)]), Step::Cut],
            vec![send([event(4), event(7), event(8)]), Step::Fail(unavailable())],
            vec![send([event(4), event(7), event(8), end])],
        ]);
        let mut stream = fake.client().turns().stream(request());
        let items = delivered(&mut stream).await;
        let (last, before) = items.split_last().expect("an end");
        let expected = ["event 4", "event 7", "resumed after 7", "event 8", "resumed after 8"];
        assert_eq!(before, expected);
        assert!(last.ends_with(" 9"), "{last}");
        let id = stream.request_id();
        let sent = v1::StreamTurnRequest::from(request().request_id(id));
        assert_eq!(fake.stream_turn.requests(), vec![sent; 3]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_does_not_end_its_turn() {
    let fake = Fake::start();
    let finished = event_with(2, Payload::ToolCallFinished(Box::default()));
    let idle = event_with(3, Payload::SessionIdle(v1::SessionIdle::default()));
    fake.stream_turn.plays([vec![send([event(1), finished]), send([idle])]]);
    let items = delivered(&mut fake.client().turns().stream(request())).await;
    assert_eq!(items.len(), 3, "{items:?}");
}
