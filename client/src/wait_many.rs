//! Waiting for any number of tasks.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use callpark_proto::v1::WaitMode;
use futures::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    call::Call,
    client::Client,
    error::Error,
    parked::{Patience, Wait},
    unary::send,
    v1,
};

const RPC: &str = "BackgroundTasks.WaitMany";
/// The most ids in one request.
const CHUNK_IDS: usize = 100;
/// The most ids to wait for one of: each chunk of them holds a stream of the connection.
const ANY_IDS_MAX: usize = 64 * CHUNK_IDS;

impl Client {
    /// Waits for the end of one of the tasks, for at most so long. `None`: for ever. The answer says
    /// which have ended and which haven't, in the order of the ids.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` when one of the ids is unknown; INVALID_ARGUMENT for no id, or for
    /// more than 6,400.
    pub async fn wait_any(
        &self,
        background_ids: &[String],
        at_most: Option<Duration>,
    ) -> Result<v1::WaitManyResponse, Error> {
        if background_ids.len() > ANY_IDS_MAX {
            return Err(Error::options("one of more than 6,400 tasks").of(RPC, 0));
        }
        let patience = Patience::new(self, at_most);
        let chunks = chunks(background_ids);
        loop {
            let wait = patience.next();
            let answers = self.race(&chunks, &wait, &patience).await?;
            let settled = answers.values().any(|answer| !answer.settled.is_empty());
            if settled || patience.ends_with(&wait).await {
                return self.complete(&chunks, answers, &patience).await;
            }
        }
    }

    /// Waits for the end of all of the tasks, for at most so long. `None`: for ever. The answer says
    /// which have ended and which haven't, in the order of the ids.
    ///
    /// # Errors
    /// NOT_FOUND `TASK_NOT_FOUND` when one of the ids is unknown; INVALID_ARGUMENT for no id.
    pub async fn wait_all(
        &self,
        background_ids: &[String],
        at_most: Option<Duration>,
    ) -> Result<v1::WaitManyResponse, Error> {
        let patience = Patience::new(self, at_most);
        let mut all = v1::WaitManyResponse::default();
        for ids in chunks(background_ids) {
            let answer = loop {
                let wait = patience.next();
                let answer = self.wait_chunk(&ids, WaitMode::All, &wait, &patience).await?;
                if answer.pending.is_empty() || patience.ends_with(&wait).await {
                    break answer;
                }
            };
            append(&mut all, answer);
        }
        all.waited = patience.waited();
        Ok(all)
    }

    /// Waits for one of each chunk, until the first chunk has one. The answers by number of chunk.
    async fn race(
        &self,
        chunks: &[Vec<String>],
        wait: &Wait,
        patience: &Patience,
    ) -> Result<BTreeMap<usize, v1::WaitManyResponse>, Error> {
        let mut waits: FuturesUnordered<_> = chunks
            .iter()
            .enumerate()
            .map(async |(number, ids)| {
                (number, self.wait_chunk(ids, WaitMode::Any, wait, patience).await)
            })
            .collect();
        let mut answers = BTreeMap::new();
        while let Some((number, answer)) = waits.next().await {
            let answer = answer?;
            let settled = !answer.settled.is_empty();
            answers.insert(number, answer);
            if settled {
                break;
            }
        }
        Ok(answers)
    }

    /// One answer of all chunks: those that lost the race are asked where they stand.
    async fn complete(
        &self,
        chunks: &[Vec<String>],
        mut answers: BTreeMap<usize, v1::WaitManyResponse>,
        patience: &Patience,
    ) -> Result<v1::WaitManyResponse, Error> {
        let mut all = v1::WaitManyResponse::default();
        for (number, ids) in chunks.iter().enumerate() {
            let answer = match answers.remove(&number) {
                Some(answer) => answer,
                None => self.wait_chunk(ids, WaitMode::Any, &Wait::none(), patience).await?,
            };
            append(&mut all, answer);
        }
        all.waited = patience.waited();
        Ok(all)
    }

    async fn wait_chunk(
        &self,
        ids: &[String],
        mode: WaitMode,
        wait: &Wait,
        patience: &Patience,
    ) -> Result<v1::WaitManyResponse, Error> {
        let request = v1::WaitManyRequest {
            background_ids: ids.to_vec(),
            mode: mode.into(),
            wait: wait.field(),
            acknowledge: false,
        };
        let call = Call::resumed(self, RPC).until(patience.over);
        send(call, request, |client, request| {
            let mut service = client.background_tasks();
            async move { service.wait_many(request).await }
        })
        .await
    }
}

fn append(all: &mut v1::WaitManyResponse, answer: v1::WaitManyResponse) {
    all.settled.extend(answer.settled);
    all.pending.extend(answer.pending);
}

/// The ids, each once, as many at a time as one request takes. No id at all is one request, which the
/// server refuses.
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
    fn chunks_hold_each_id_once_in_order() {
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
