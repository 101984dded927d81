//! Figures and what is made of them.

use std::future::Future;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use crate::Result;

/// One figure of each round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    /// The figure in the middle.
    pub(crate) fn median(&self) -> f64 {
        percentile(&self.0, 0.5)
    }

    /// The smallest.
    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The largest.
    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// The value that this share of all values doesn't exceed.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1));
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Measures a base line and a case in turns: what disturbs one round disturbs both.
pub(crate) async fn in_turns<B, C>(
    rounds: usize,
    mut base: impl FnMut() -> B,
    mut case: impl FnMut() -> C,
) -> Result<(Samples, Samples)>
where
    B: Future<Output = Result<f64>>,
    C: Future<Output = Result<f64>>,
{
    // One round of each that doesn't count: connections, caches, files.
    base().await?;
    case().await?;
    let (mut bases, mut cases) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        bases.0.push(base().await?);
        cases.0.push(case().await?);
    }
    Ok((bases, cases))
}

/// Does `work` again and again for a while, so many at a time, and gives how long each took, in
/// microseconds, and how many there were a second.
pub(crate) async fn load<W>(
    in_flight: usize,
    span: Duration,
    work: impl Fn(usize) -> W,
) -> Result<(Vec<f64>, f64)>
where
    W: Future<Output = Result<()>>,
{
    let began = Instant::now();
    let worker = |index| {
        let work = &work;
        async move {
            let mut times = Vec::new();
            while began.elapsed() < span {
                let start = Instant::now();
                work(index).await?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            Result::Ok(times)
        }
    };
    let mut workers: FuturesUnordered<_> = (0..in_flight).map(worker).collect();
    let mut times = Vec::new();
    while let Some(more) = workers.next().await {
        times.extend(more?);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    Ok((times, rate))
}
