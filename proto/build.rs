//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic_prost_build::Builder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=callpark");
    println!("cargo:rerun-if-changed=google");
    #[expect(
        clippy::disallowed_methods,
        reason = "cargo passes the folder to a build script by the environment"
    )]
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(sources()?)?;
    // Not the re-encoded set: prost drops the options that it doesn't know.
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(out.join("descriptors.binpb"), &descriptors)?;
    let descriptors = FileDescriptorSet::decode(descriptors.as_slice())?;

    let client = cfg!(feature = "client");
    let server = cfg!(feature = "server");
    builder().build_client(client).build_server(server).compile_fds(descriptors.clone())?;
    if server {
        let stored = out.join("stored");
        fs::create_dir_all(&stored)?;
        builder()
            .build_client(false)
            .extern_path(".google.rpc", "crate::google::rpc")
            .extern_path(".callpark.v1", "crate::v1")
            .extern_path(".callpark.v1.SessionUpdate", "crate::stored::SessionUpdate")
            .out_dir(stored)
            .compile_fds(descriptors)?;
    }
    Ok(())
}

fn builder() -> Builder {
    tonic_prost_build::configure()
        // The crate knows no transport: a client is made from any channel.
        .build_transport(false)
        .codec_path("crate::codec::SmallCodec")
        .bytes(".")
        // The largest payloads of an event, and the rarest: without this, every piece of text and
        // output would take as much room as an event can.
        .boxed(".callpark.v1.SessionEvent.payload.tool_call_accepted")
        .boxed(".callpark.v1.SessionEvent.payload.tool_call_finished")
        // The same message is always the same bytes.
        .btree_map(".")
}

/// The files of callpark.v1, in the same order on every machine, and the details of errors, which
/// travel in a trailer and so are named by none of them.
fn sources() -> std::io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir("callpark/v1")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            sources.push(path);
        }
    }
    sources.sort();
    sources.push(PathBuf::from("google/rpc/error_details.proto"));
    Ok(sources)
}
