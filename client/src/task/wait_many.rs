//! Waits for any number of tasks.

use std::collections::{BTreeMap, HashSet};

use callpark_proto::v1::WaitMode;
use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    error::Error,
    task::wait::{ServerWait, WaitChain, WaitLimit},
    transport::{
        attempts::Attempts,
        connection::Connection,
        unary::{rpc, send},
    },
    v1,
};

const RPC: &str = "BackgroundTasks.WaitMany";
/// The maximum number of ids in one request.
const CHUNK_IDS: usize = 100;
/// The maximum number of ids to wait for one of. Each chunk of them occupies a stream of the
/// connection.
const ANY_IDS_MAX: usize = 64 * CHUNK_IDS;

/// Waits until one of the tasks has ended.
pub(super) async fn wait_any(
    connection: &Connection,
    background_ids: &[String],
    limit: WaitLimit,
) -> Result<v1::WaitManyResponse, Error> {
    if background_ids.len() > ANY_IDS_MAX {
        let message = format!(
            "cannot wait for one of {} tasks: the maximum is {ANY_IDS_MAX}",
            background_ids.len()
        );
        return Err(Error::request(message).of(RPC, 0));
    }
    let chain = WaitChain::new(connection, limit);
    let chunks = chunks(background_ids);
    loop {
        let wait = chain.next();
        let answers = first_ready(connection, &chunks, &wait, &chain).await?;
        let has_settled = answers.values().any(|answer| !answer.settled.is_empty());
        if has_settled || chain.ends_with(&wait).await {
            return complete(connection, &chunks, answers, &chain).await;
        }
    }
}

/// Waits until all tasks have ended.
pub(super) async fn wait_all(
    connection: &Connection,
    background_ids: &[String],
    limit: WaitLimit,
) -> Result<v1::WaitManyResponse, Error> {
    let chain = WaitChain::new(connection, limit);
    let mut all = v1::WaitManyResponse::default();
    for ids in chunks(background_ids) {
        let answer = loop {
            let wait = chain.next();
            let answer = wait_chunk(connection, &ids, WaitMode::All, &wait, &chain).await?;
            if answer.pending.is_empty() || chain.ends_with(&wait).await {
                break answer;
            }
        };
        append(&mut all, answer);
    }
    all.waited = chain.waited();
    Ok(all)
}

/// Waits for one task of each chunk, until the first chunk has one. Returns the answers by the index
/// of their chunk.
async fn first_ready(
    connection: &Connection,
    chunks: &[Vec<String>],
    wait: &ServerWait,
    chain: &WaitChain,
) -> Result<BTreeMap<usize, v1::WaitManyResponse>, Error> {
    let mut waits: FuturesUnordered<_> = chunks
        .iter()
        .enumerate()
        .map(async |(index, ids)| {
            (index, wait_chunk(connection, ids, WaitMode::Any, wait, chain).await)
        })
        .collect();
    let mut answers = BTreeMap::new();
    while let Some((index, answer)) = waits.next().await {
        let answer = answer?;
        let has_settled = !answer.settled.is_empty();
        answers.insert(index, answer);
        if has_settled {
            break;
        }
    }
    Ok(answers)
}

/// Joins the answers of all chunks. Chunks without an answer are asked for their current state.
async fn complete(
    connection: &Connection,
    chunks: &[Vec<String>],
    mut answers: BTreeMap<usize, v1::WaitManyResponse>,
    chain: &WaitChain,
) -> Result<v1::WaitManyResponse, Error> {
    let mut all = v1::WaitManyResponse::default();
    for (index, ids) in chunks.iter().enumerate() {
        let answer = match answers.remove(&index) {
            Some(answer) => answer,
            None => wait_chunk(connection, ids, WaitMode::Any, &ServerWait::none(), chain).await?,
        };
        append(&mut all, answer);
    }
    all.waited = chain.waited();
    Ok(all)
}

async fn wait_chunk(
    connection: &Connection,
    ids: &[String],
    mode: WaitMode,
    wait: &ServerWait,
    chain: &WaitChain,
) -> Result<v1::WaitManyResponse, Error> {
    let request = v1::WaitManyRequest {
        background_ids: ids.to_vec(),
        mode: mode.into(),
        wait: wait.to_message(),
        acknowledge: false,
    };
    let attempts = Attempts::part_of_operation(connection, RPC).until(chain.deadline);
    send(attempts, request, rpc!(background_tasks.wait_many)).await
}

fn append(all: &mut v1::WaitManyResponse, answer: v1::WaitManyResponse) {
    all.settled.extend(answer.settled);
    all.pending.extend(answer.pending);
}

/// Splits the ids, each taken once, into as many as one request may contain. No ids result in one
/// empty request, which the server refuses.
fn chunks(background_ids: &[String]) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let ids: Vec<_> = background_ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
    if ids.is_empty() {
        return vec![ids];
    }
    ids.chunks(CHUNK_IDS).map(<[String]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_contain_each_id_once_in_order() {
        let ids: Vec<_> = (0..250).chain(0..250).map(|id| id.to_string()).collect();
        let chunks = chunks(&ids);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(chunks.concat(), ids[..250]);
    }

    #[test]
    fn no_ids_are_one_empty_chunk() {
        assert_eq!(chunks(&[]), [Vec::<String>::new()]);
    }
}
