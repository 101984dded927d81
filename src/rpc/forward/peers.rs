//! The question whether another replica can write, which its health answers.

use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http::{Method, Request, Version};
use http_body::Body;
use prost::Message as _;
use tonic_health::pb::HealthCheckResponse;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{Forwarder, KeptBody};
use crate::engine::Peers;

/// The time that a replica has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The method that is asked. It is open for everybody.
const PATH: &str = "/grpc.health.v1.Health/Check";

/// The request for the health of the whole server: an empty message, behind its flag and length.
const REQUEST: &[u8] = &[0; PREFIX_BYTES];

/// The length of the flag and the length in front of a message, in bytes.
const PREFIX_BYTES: usize = 5;

/// The largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 1024;

#[async_trait]
impl Peers for Forwarder {
    async fn can_write(&self, address: &str) -> Option<bool> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.health(address)).await;
        match answer.ok()?? {
            ServingStatus::Serving => Some(true),
            ServingStatus::NotServing => Some(false),
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => None,
        }
    }
}

impl Forwarder {
    async fn health(&self, address: &str) -> Option<ServingStatus> {
        let mut body = KeptBody::default();
        body.push(Bytes::from_static(REQUEST));
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("{address}{PATH}"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(TE, HeaderValue::from_static("trailers"))
            .body(body)
            .ok()?;
        let (response, _slot) = self.send(address, request).await.ok()?;
        let answer = read(response.into_body()).await?;
        let message = answer.get(PREFIX_BYTES..)?;
        HealthCheckResponse::decode(message).ok().map(|answer| answer.status())
    }
}

/// Returns the bytes of a body, or `None` if it is cut off or too large.
async fn read(body: hyper::body::Incoming) -> Option<BytesMut> {
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            bytes.extend_from_slice(&data);
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    Some(bytes)
}
