//! The wire below the clients: methods from the descriptors, and requests of any bytes.

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_types::{ErrorDetail, StatusExt as _};

use super::{TestServer, millis, soon, v1};

/// One RPC of the contract.
#[derive(Debug, Clone)]
pub struct Method {
    /// `ToolRunner/RunTool`.
    pub name: String,
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(callpark_proto::FILE_DESCRIPTOR_SET).expect("descriptors")
}

/// A request with nothing in it; of a method that waits by itself, one that says not to.
pub fn least_request(method: &str) -> Bytes {
    if !method.ends_with("/LeaseFollowUps") {
        return Bytes::new();
    }
    let request = v1::LeaseFollowUpsRequest { wait: millis(0), ..Default::default() };
    request.encode_to_vec().into()
}

/// All RPCs of the contract.
pub fn methods() -> Vec<Method> {
    let mut methods = Vec::new();
    for service in descriptors().file.iter().flat_map(|file| &file.service) {
        methods.extend(
            service
                .method
                .iter()
                .map(|method| Method { name: format!("{}/{}", service.name(), method.name()) }),
        );
    }
    assert!(methods.len() > 20, "{methods:?}");
    methods
}

/// Bytes are messages.
#[derive(Debug, Clone, Copy, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A request of these bytes with the server's token.
pub fn with_token(server: &TestServer, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    let token = format!("Bearer {}", server.token()).parse().expect("a header");
    request.metadata_mut().insert("authorization", token);
    request
}

/// Sends a request to `package.Service/Method`.
pub async fn send(
    channel: &Channel,
    path: &str,
    request: Request<Bytes>,
) -> Result<Response<Streaming<Bytes>>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(16 << 20);
    soon("a connection", grpc.ready()).await.expect("a connection");
    let path = format!("/{path}").parse().expect("a path");
    soon("an answer", grpc.server_streaming(request, path, RawCodec)).await
}

/// The first message of the answer to a method of callpark, or the error.
pub async fn first_answer(
    channel: &Channel,
    method: &str,
    request: Request<Bytes>,
) -> Result<(Option<Bytes>, MetadataMap), Status> {
    let answer = send(channel, &format!("callpark.v1.{method}"), request).await?;
    let (head, mut body, _) = answer.into_parts();
    let first = soon("a message", body.message()).await?;
    Ok((first, head))
}

/// The reason of an error, if it has exactly one, and of this product.
pub fn only_reason(status: &Status) -> Option<String> {
    let infos = status.get_error_details_vec().into_iter().filter_map(|detail| match detail {
        ErrorDetail::ErrorInfo(info) => Some(info),
        _ => None,
    });
    let infos: Vec<_> = infos.collect();
    match infos.as_slice() {
        [info] if info.domain == "callpark" && !info.reason.is_empty() => Some(info.reason.clone()),
        _ => None,
    }
}

/// The fields that an error names.
pub fn bad_fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request();
    let violations = details.map(|details| details.field_violations).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}
