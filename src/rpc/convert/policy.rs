//! The policies of calls and turns.

use callpark_proto::v1;

use super::FieldReader;
use crate::model::{FollowUpPolicy, OnDisconnect};

pub(super) fn on_disconnect_policy(
    fields: &mut FieldReader,
    path: &str,
    number: i32,
) -> OnDisconnect {
    match fields.choice::<v1::OnDisconnect>(path, number) {
        v1::OnDisconnect::Unspecified | v1::OnDisconnect::Park => OnDisconnect::Park,
        v1::OnDisconnect::Cancel => OnDisconnect::Cancel,
    }
}

pub(super) fn follow_up_policy(
    fields: &mut FieldReader,
    path: &str,
    number: i32,
) -> FollowUpPolicy {
    match fields.choice::<v1::FollowUpPolicy>(path, number) {
        v1::FollowUpPolicy::Unspecified | v1::FollowUpPolicy::None => FollowUpPolicy::None,
        v1::FollowUpPolicy::OnFinish => FollowUpPolicy::OnFinish,
        v1::FollowUpPolicy::OnFailure => FollowUpPolicy::OnFailure,
    }
}
