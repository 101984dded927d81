//! The rights of a key's callers.

use callpark::model::{Scope, Scopes};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{Keys, all_but};
use crate::support::v1;
use crate::support::wire::{first_answer, least_request, methods};

/// The method that requires no scope.
const OPEN: &str = "ToolRunner/GetServerInfo";

#[tokio::test]
async fn every_method_is_refused_without_its_scope_and_with_all_others() {
    let keys = Keys::with_config("").await;
    let mut refusing = Vec::new();
    for scope in Scope::ALL {
        refusing.push((scope, keys.create("acme", all_but(*scope)).await));
    }
    let admin = keys.create("acme", [Scope::Admin].into_iter().collect()).await;
    for method in methods() {
        let name = method.name;
        let mut refusals = Vec::new();
        for (scope, key) in &refusing {
            let request = key.request(least_request(&name));
            let answer = first_answer(&keys.server.channel, &name, request).await;
            let Err(status) = answer else { continue };
            if status.code() != Code::PermissionDenied {
                continue;
            }
            let info = status.get_details_error_info().expect("an ErrorInfo");
            let named = (&*info.reason, &*info.metadata["scope"], &*info.metadata["method"]);
            let path = format!("callpark.v1.{name}");
            assert_eq!(named, ("SCOPE_MISSING", scope.as_str(), &*path));
            assert!(status.message().contains(scope.as_str()), "{status:?}");
            refusals.push(scope);
        }
        let of_admin =
            first_answer(&keys.server.channel, &name, admin.request(least_request(&name))).await;
        let is_refused = of_admin.is_err_and(|status| status.code() == Code::PermissionDenied);
        match name == OPEN {
            true => assert!(refusals.is_empty() && !is_refused, "{name}"),
            false => assert!(refusals.len() == 1 && is_refused, "{name}: {refusals:?}"),
        }
    }
}

#[tokio::test]
async fn a_caller_learns_who_it_is_and_only_an_operator_of_the_processes() {
    let keys = Keys::with_config("").await;
    let reader = keys.create("acme", [Scope::Read].into_iter().collect()).await;
    let mut tools = reader.clients.tools.clone();
    let info = tools.get_server_info(v1::GetServerInfoRequest {}).await.expect("an answer");
    let expected = v1::Caller {
        tenant: "acme".into(),
        name: "acme-backend".into(),
        scopes: vec!["read".into()],
        credential_id: reader.id.to_string(),
        expire_time: None,
    };
    assert_eq!(info.into_inner().caller, Some(expected));
    let mut tools = keys.server.tools.clone();
    let info = tools.get_server_info(v1::GetServerInfoRequest {}).await.expect("an answer");
    let local = info.into_inner().caller.expect("a caller");
    let all: Vec<String> = Scopes::ALL.iter().map(|scope| scope.to_string()).collect();
    assert_eq!((&*local.tenant, local.scopes, &*local.credential_id), ("local", all, ""));
}
