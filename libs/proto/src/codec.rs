//! tonic's protobuf codec, with faults of decoding blamed on the sender.
//!
//! tonic answers INTERNAL where a message cannot be decoded (bad UTF-8, nesting too deep, truncated). The caller sent
//! it, so INVALID_ARGUMENT is the truth. The outermost layer adds the `ErrorInfo`.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

/// Codec of all generated clients and servers.
#[derive(Debug)]
pub struct StrictCodec<T, U> {
    types: PhantomData<(T, U)>,
}

/// Decoder of [`StrictCodec`].
#[derive(Debug)]
pub struct StrictDecoder<U> {
    message: PhantomData<U>,
}

// === impl StrictCodec ===

impl<T, U> Default for StrictCodec<T, U> {
    fn default() -> Self {
        Self { types: PhantomData }
    }
}

impl<T, U> Codec for StrictCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = StrictDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        StrictDecoder { message: PhantomData }
    }
}

// === impl StrictDecoder ===

impl<U: Message + Default> Decoder for StrictDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The decoder's own text names fields of ours and nothing of the sender's; it helps to find the fault.
        U::decode(buffer)
            .map(Some)
            .map_err(|fault| Status::invalid_argument(format!("message cannot be decoded: {fault}")))
    }
}
