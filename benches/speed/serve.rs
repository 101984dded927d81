//! The servers, in a process of their own.

use std::path::Path;

use callpark::config::{Environment, LoadOptions};
use callpark::{Config, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

use crate::{Result, bare, model, tools};

/// The program, as the owner of processes.
const PROGRAM: &str = env!("CARGO_BIN_EXE_callpark");

/// Serves until it is killed. The first line that it says is its address.
pub(crate) async fn serve(mut arguments: impl Iterator<Item = String>) -> Result<()> {
    let kind = arguments.next().ok_or("which server?")?;
    let folder = arguments.next().ok_or("where?")?;
    let model = arguments.next().unwrap_or_default();
    match kind.as_str() {
        "callpark" => serve_callpark(Path::new(&folder), &model, None).await,
        "shim" => serve_callpark(Path::new(&folder), &model, Some(PROGRAM)).await,
        "model" => model::serve().await,
        _ => serve_bare(model).await,
    }
}

async fn serve_callpark(folder: &Path, model: &str, shim: Option<&str>) -> Result<()> {
    // As the program does.
    callpark::internals::exec::adopt_orphans();
    let settings = [
        ("listen", "127.0.0.1:0"),
        ("admin-listen", "127.0.0.1:0"),
        ("auth", "none"),
        ("log-filter", "warn"),
        ("drain", "1s"),
        ("max-connections-per-peer", "10000"),
        ("max-streams-per-connection", "10000"),
        ("max-live-tasks", "1000"),
        ("max-running-calls", "100000"),
        ("data-dir", &folder.display().to_string()),
    ];
    let overrides = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let environment = Environment::capture();
    let file = folder.join("callpark.toml");
    let models = match model {
        "" => String::new(),
        endpoint => format!("[[models]]\nname = 'words'\nendpoint = '{endpoint}'\n"),
    };
    std::fs::write(&file, models)?;
    let options = LoadOptions { config_file: Some(file), overrides, environment };
    let mut builder = Server::builder(Config::load(options)?.config);
    if let Some(program) = shim {
        builder = builder.shim(program.into());
    }
    for tool in tools::all() {
        builder = builder.tool(tool);
    }
    let server = builder.build().await?;
    let admin = server.admin_address().ok_or("no address for operators")?;
    println!("http://{} {admin}", server.addresses()[0]);
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let stop_at_signal = async {
        terminate.recv().await;
        stop.cancel();
    };
    let (ran, ()) = tokio::join!(server.run(stop.clone()), stop_at_signal);
    Ok(ran?)
}

async fn serve_bare(model: String) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    // For the proxy's requests; another one may be there already.
    let _result = rustls::crypto::ring::default_provider().install_default();
    let bare = bare::Bare { model: model.into() };
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(bare::ToolRunner(bare.clone()))
        .add_service(bare::BackgroundTasks(bare))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
