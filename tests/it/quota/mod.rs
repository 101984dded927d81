//! The limits of tenants: what is refused, how the answer says so, and what still passes.

use std::collections::HashMap;

use callpark::model::Scopes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::keys::{Key, Keys};
use crate::support::check_reason;

mod budgets;
mod calls;
mod rates;
mod sessions;
mod streams;

/// A server on which the tenant `local`, that of its own token, has these limits.
async fn limited(limits: &str) -> Keys {
    Keys::with_config(&format!("[[tenant_limits]]\nname = \"local\"\n{limits}\n")).await
}

/// A caller of a tenant without limits.
async fn other(keys: &Keys) -> Key {
    keys.create("other", Scopes::ALL.iter().collect()).await
}

/// Checks that a refusal has all details of this limit of the tenant `local`.
#[track_caller]
fn check_refusal(status: &Status, reason: &str, limit: &str, maximum: &str) {
    check_reason(status, Code::ResourceExhausted, reason);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    let expected = [("limit", limit), ("maximum", maximum)];
    let expected: HashMap<String, String> =
        expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(info.metadata, expected, "{status:?}");
    let quota = status.get_details_quota_failure().expect("a QuotaFailure");
    let [violation] = quota.violations.as_slice() else { panic!("one violation: {quota:?}") };
    assert_eq!(violation.subject, "tenant:local");
    assert!(violation.description.starts_with(&format!("{maximum} ")), "{violation:?}");
    assert!(violation.description.ends_with(&format!("({limit})")), "{violation:?}");
    assert!(status.message().contains(&violation.description), "{status:?}");
    let retry = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
    assert!(retry.is_some_and(|delay| !delay.is_zero()), "{status:?}");
}
