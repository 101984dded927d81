//! `callpark whoami`: the caller, as a server sees it.

use super::Context;
use crate::cli::{error::Failure, exit::Exit, print::time::relative_time};

/// Show who the server takes you for, and what you may do
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WhoamiArgs {}

pub(crate) async fn run(WhoamiArgs {}: WhoamiArgs, context: &mut Context) -> Result<Exit, Failure> {
    let Some(caller) = context.client.server_info().await?.caller else {
        let text = "this server does not say who its callers are: it is of an earlier version";
        return Err(Failure::new(Exit::Refused, text));
    };
    if context.out.json {
        return context.out.document(&caller).await.map(|()| Exit::Success);
    }
    let expires = match &caller.expire_time {
        Some(time) => relative_time(Some(time)),
        None => "never".to_owned(),
    };
    let key = if caller.credential_id.is_empty() { "none" } else { &caller.credential_id };
    let scopes = caller.scopes.join(", ");
    let rows = [
        ("tenant", &*caller.tenant),
        ("name", &caller.name),
        ("key", key),
        ("scopes", &scopes),
        ("expires", &expires),
    ];
    for (label, value) in rows {
        context.out.line(&format!("{label:9}{value}")).await?;
    }
    Ok(Exit::Success)
}
