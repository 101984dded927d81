//! The codec of the generated clients and servers.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The initial capacity of a buffer, in bytes. tonic's own 8 KiB, once for the request and once
/// for the answer, are most of what a waiting RPC or an idle stream takes.
const BUFFER_BYTES: usize = 512;

/// The amount that is encoded before it is passed to the transport, in bytes: tonic's default.
const YIELD_BYTES: usize = 32 * 1024;

/// prost, with buffers that are small until more is needed.
#[derive(Debug, Clone)]
pub struct SmallCodec<Encoded, Decoded> {
    messages: PhantomData<(Encoded, Decoded)>,
}

impl<Encoded, Decoded> Default for SmallCodec<Encoded, Decoded> {
    fn default() -> Self {
        Self { messages: PhantomData }
    }
}

impl<Encoded, Decoded> Codec for SmallCodec<Encoded, Decoded>
where
    Encoded: Message + Send + 'static,
    Decoded: Message + Default + Send + 'static,
{
    type Encode = Encoded;
    type Decode = Decoded;
    type Encoder = ProstEncoder<Encoded>;
    type Decoder = ProstDecoder<Decoded>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Encoded, Decoded>::raw_encoder(settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Encoded, Decoded>::raw_decoder(settings())
    }
}

fn settings() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
}
