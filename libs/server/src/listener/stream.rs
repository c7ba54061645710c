//! The bytes of a connection.
//!
//! Its first ones were read to see that somebody speaks HTTP/2, and are read once more.
//!
//! Its end is told before it is closed. What a client sends to a socket that is closed already is answered by a reset, which
//! also throws away what the client has not read yet: the GOAWAY that says which of its calls were seen. So whatever still
//! comes is read and dropped until the client ends its side (RFC 9112, 9.6, says the same of HTTP/1).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Longest wait for the client to end its side. One that has read the end does so at once.
const LINGER_MAX: Duration = Duration::from_secs(1);

/// Bytes that are dropped at a time.
const DROPPED_BYTES: usize = 4 * 1024;

/// How HTTP/2 begins, whoever speaks it (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection on which [`PREFACE`] was read, and which lingers when it is shut down.
pub(super) struct Begun<S> {
    stream: S,
    /// What of the preface is still to be read again.
    again: &'static [u8],
    /// Set once the end of writing was told.
    until: Option<Pin<Box<Sleep>>>,
}

// === impl Begun ===

impl<S: AsyncRead + Unpin> Begun<S> {
    /// Reads the preface.
    ///
    /// # Errors
    /// When something else comes, or nothing.
    pub(super) async fn read(mut stream: S) -> io::Result<Self> {
        let mut first = [0; PREFACE.len()];
        stream.read_exact(&mut first).await?;
        if first != PREFACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        Ok(Self {
            stream,
            again: PREFACE,
            until: None,
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.again.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let (now, later) = self.again.split_at(self.again.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.again = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.until.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let until = this.until.get_or_insert_with(|| Box::pin(sleep(LINGER_MAX)));
        loop {
            if until.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; DROPPED_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The other side has ended too, in whatever way.
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    async fn begun() -> (Begun<DuplexStream>, DuplexStream) {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(PREFACE).await.unwrap();
        (Begun::read(ours).await.unwrap(), theirs)
    }

    #[tokio::test]
    async fn what_was_read_first_is_read_again_in_pieces_of_any_size() {
        let (mut stream, mut theirs) = begun().await;
        theirs.write_all(b"and on").await.unwrap();
        let mut read = Vec::new();
        while read.len() < PREFACE.len() + 6 {
            let mut piece = [0; 7];
            let size = stream.read(&mut piece).await.unwrap();
            read.extend_from_slice(&piece[..size]);
        }
        assert_eq!(read, [PREFACE, b"and on"].concat());
    }

    #[tokio::test]
    async fn what_is_not_http_2_does_not_begin() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
            b"",
        ] {
            let (ours, mut theirs) = duplex(64);
            theirs.write_all(bytes).await.unwrap();
            drop(theirs);
            assert!(Begun::read(ours).await.is_err(), "{bytes:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_open_until_the_other_side_has_read_its_end() {
        let (mut stream, mut theirs) = begun().await;
        let ended = tokio::spawn(async move { stream.shutdown().await });
        // The other side goes on writing, reads the end, and ends too.
        for _ in 0..100 {
            theirs.write_all(&[7; 64]).await.unwrap();
        }
        assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!ended.is_finished());
        drop(theirs);
        ended.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_wait_for_ever() {
        let (mut stream, theirs) = begun().await;
        let begun = Instant::now();
        stream.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LINGER_MAX);
        // Held open until here.
        drop(theirs);
    }
}
