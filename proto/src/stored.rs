//! The servers of `callpark.v1`, with a session stream that sends events as stored bytes.
//!
//! A server writes each event to its log as an encoded [`SessionEvent`](crate::v1::SessionEvent) and
//! later sends it to any number of readers. Decoding it for each of them, only to encode it again,
//! would cost more than all the rest of a replay, and would lose the fields of an event that a newer
//! version wrote. [`SessionUpdate`] here holds the events as bytes instead. On the wire it is the
//! [`SessionUpdate`](crate::v1::SessionUpdate) of `v1`: an embedded message and a `bytes` field are
//! both a length and that many bytes, so that clients see no difference.
//!
//! All other messages are those of [`v1`].

use bytes::Bytes;

use crate::v1;

pub use generated::*;

#[expect(
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "the attributes are the generator's"
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/stored/callpark.v1.rs"));
}

/// The `callpark.v1.SessionUpdate` of the wire, with its events as encoded bytes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionUpdate {
    /// Encoded [`SessionEvent`](crate::v1::SessionEvent) messages in the order of the log. Nothing
    /// checks that they are any.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub events: Vec<Bytes>,
    /// Something about the stream itself.
    #[prost(oneof = "v1::session_update::Control", tags = "2, 3, 4, 5, 6")]
    pub control: Option<v1::session_update::Control>,
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::SessionUpdate;
    use crate::v1::{
        self, CaughtUp, Draining, Gap, Heartbeat, SessionEvent, Snapshot, ToolOutput,
        session_event::Payload, session_update::Control,
    };

    fn events() -> Vec<SessionEvent> {
        (1..=3)
            .map(|sequence| SessionEvent {
                session_id: "ses-00000000000000000000000000000000".into(),
                sequence,
                payload: Some(Payload::ToolOutput(ToolOutput {
                    offset: sequence * 4,
                    data: vec![0, 159, 146, 150].into(),
                    ..ToolOutput::default()
                })),
                ..SessionEvent::default()
            })
            .collect()
    }

    fn controls() -> Vec<Option<Control>> {
        let session = Some(v1::Session { description: "a session".into(), ..Default::default() });
        vec![
            None,
            Some(Control::Snapshot(Snapshot { session, head_sequence: 3, ..Default::default() })),
            Some(Control::CaughtUp(CaughtUp { head_sequence: 3 })),
            Some(Control::Heartbeat(Heartbeat { head_sequence: 3 })),
            Some(Control::Gap(Gap { from_sequence: 1, to_sequence: 2 })),
            Some(Control::Draining(Draining { last_sequence: 3, ..Default::default() })),
        ]
    }

    #[test]
    fn stored_update_is_the_update_of_the_wire() {
        for control in controls() {
            let plain = v1::SessionUpdate { events: events(), control: control.clone() };
            let stored = SessionUpdate {
                events: events().iter().map(|event| event.encode_to_vec().into()).collect(),
                control,
            };
            let wire = plain.encode_to_vec();
            assert_eq!(stored.encode_to_vec(), wire);
            assert_eq!(SessionUpdate::decode(wire.as_slice()).unwrap(), stored);
            assert_eq!(
                v1::SessionUpdate::decode(stored.encode_to_vec().as_slice()).unwrap(),
                plain
            );
        }
    }

    /// The hand-written message names the numbers of the controls: here they are all there are.
    #[test]
    fn stored_update_knows_every_field_of_the_update() {
        let set = prost_types::FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).unwrap();
        let numbers: Vec<i32> = set
            .file
            .iter()
            .filter(|file| file.package() == "callpark.v1")
            .flat_map(|file| &file.message_type)
            .filter(|message| message.name() == "SessionUpdate")
            .flat_map(|message| &message.field)
            .map(|field| field.number())
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }
}
