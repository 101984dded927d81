//! The toolbox by itself, on a clock that stands still while a task works.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use callpark::tool::{Catalog, ProviderUnavailable, Registry, ToolProvider, Toolbox};
use tokio::time::Instant;

use crate::in_process::count;

/// Answers after so long.
struct Slow {
    name: &'static str,
    span: Duration,
    asked: AtomicUsize,
}

impl Slow {
    fn new(name: &'static str, span: Duration) -> Arc<Self> {
        Arc::new(Self { name, span, asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl ToolProvider for Slow {
    fn name(&self) -> &str {
        self.name
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, ProviderUnavailable> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.span).await;
        Ok(Arc::default())
    }

    async fn close(&self) {}
}

const FOR_EVER: Duration = Duration::from_secs(1_000_000);

#[tokio::test(start_paused = true)]
async fn a_list_does_not_wait_for_a_silent_provider() {
    let (silent, slow) = (Slow::new("silent", FOR_EVER), Slow::new("slow", Duration::from_secs(9)));
    let own = Registry::new(vec![count()]).expect("a registry");
    let toolbox = Toolbox::new(own, vec![silent.clone(), slow]).expect("a toolbox");
    let begun = Instant::now();
    let (tools, unavailable) = toolbox.list().await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(tools.len(), 1, "the server's own are there");
    let [missing] = &unavailable[..] else { panic!("{unavailable:?}") };
    assert_eq!(missing.provider, "silent");
    for words in ["`silent` is still starting", "for 10 s", "list the tools again"] {
        assert!(missing.reason.contains(words), "{}", missing.reason);
    }
    toolbox.list().await;
    assert_eq!(silent.asked.load(Ordering::SeqCst), 2, "each list asks again");
}

#[tokio::test(start_paused = true)]
async fn a_tool_is_looked_up_for_a_time_only() {
    let slow = Slow::new("slow", Duration::from_secs(60));
    let toolbox = Toolbox::new(Registry::new(vec![]).expect("a registry"), vec![slow.clone()]);
    let toolbox = toolbox.expect("a toolbox");
    let begun = Instant::now();
    let waits = Duration::from_secs(10);
    let found = toolbox.find("slow__tool", waits).await.expect("a tool that may be there");
    assert!(found.waits(), "its calls wait for the provider");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(toolbox.find("slow__tool", FOR_EVER).await.is_none(), "it offers none");
    assert_eq!(begun.elapsed().as_secs(), 70);
}
