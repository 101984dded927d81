//! The typed details of a server error.

use std::{collections::HashMap, time::Duration};

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::error::Reason;

/// The typed details of an error that the server returned.
///
/// ```
/// use callpark_client::Error;
///
/// fn log(error: &Error) {
///     let details = error.details();
///     eprintln!("{error}; request {}, {:?}", details.request_id, details.metadata);
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Details {
    /// The stable reason, or `None` if the server gave none.
    pub reason: Option<Reason>,
    /// Additional values that belong to the reason, by name.
    pub metadata: HashMap<String, String>,
    /// The invalid fields of the request.
    pub fields: Vec<Violation>,
    /// The preconditions that do not hold, by subject.
    pub preconditions: Vec<Violation>,
    /// The quotas that are exhausted, by subject.
    pub quotas: Vec<Violation>,
    /// The time to wait before the next attempt, or `None` if the server asks for none.
    pub retry_delay: Option<Duration>,
    /// The resource that was not found.
    pub resource: Option<Resource>,
    /// The id under which the server's log has the request; empty if it gave none.
    pub request_id: String,
}

/// The failure of a call at one of several endpoints.
///
/// ```
/// use callpark_client::Error;
///
/// fn print_endpoints(error: &Error) {
///     for failure in error.endpoint_failures() {
///         eprintln!("{}: {}", failure.endpoint, failure.failure);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFailure {
    /// The endpoint as the options name it, and its address if the host has several.
    pub endpoint: String,
    /// The failure, in one line of at most 120 characters.
    pub failure: String,
}

/// One violation of a request.
///
/// ```
/// use callpark_client::Error;
///
/// fn print_bad_fields(error: &Error) {
///     for violation in error.field_violations() {
///         eprintln!("{}: {}", violation.subject, violation.description);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The field or the subject.
    pub subject: String,
    /// The stable reason, such as `REQUIRED` for a field; empty if the server gave none.
    pub reason: String,
    /// The problem with it.
    pub description: String,
}

/// A resource that an error is about.
///
/// ```
/// use callpark_client::Error;
///
/// fn missing_id(error: &Error) -> Option<&str> {
///     error.resource().map(|resource| resource.name.as_str())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resource {
    /// The type of the resource, such as `callpark.v1.Task`.
    pub kind: String,
    /// The id or name of the resource.
    pub name: String,
    /// A description by the server.
    pub description: String,
}

pub(super) fn details(status: &Status) -> Details {
    let details = status.get_error_details();
    let info = details.error_info();
    let violation = |subject: &String, reason: &str, description: &String| Violation {
        subject: subject.clone(),
        reason: reason.to_owned(),
        description: description.clone(),
    };
    Details {
        reason: info
            .filter(|info| !info.reason.is_empty())
            .map(|info| Reason::from(info.reason.as_str())),
        metadata: info.map_or_else(HashMap::new, |info| info.metadata.clone()),
        fields: details.bad_request().map_or_else(Vec::new, |bad| {
            let violations = bad.field_violations.iter();
            violations.map(|v| violation(&v.field, &v.reason, &v.description)).collect()
        }),
        preconditions: details.precondition_failure().map_or_else(Vec::new, |failure| {
            let violations = failure.violations.iter();
            violations.map(|v| violation(&v.subject, &v.r#type, &v.description)).collect()
        }),
        quotas: details.quota_failure().map_or_else(Vec::new, |failure| {
            failure.violations.iter().map(|v| violation(&v.subject, "", &v.description)).collect()
        }),
        retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        resource: details.resource_info().map(|info| Resource {
            kind: info.resource_type.clone(),
            name: info.resource_name.clone(),
            description: info.description.clone(),
        }),
        request_id: details.request_info().map_or_else(String::new, |info| info.request_id.clone()),
    }
}
