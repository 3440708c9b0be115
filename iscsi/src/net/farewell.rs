//! Closing a connection that was logged out: the target's FIN first.
//!
//! After the Logout Response the target closes its direction, and the initiator closes the
//! connection after it has tried to receive that (RFC 7143 §11.14). Whoever closes at once races
//! with the target's own cleanup; the Linux target of some kernels does not survive that where a
//! session has several connections (`docs/interop-lio.md`).
//!
//! Nothing that arrives meanwhile is looked at: the session is over, or has nothing left on this
//! connection. A target that does not close costs [`PATIENCE`], no more.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Sleep;

use crate::name::Cid;

/// How long the target may take to close its direction.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is read and thrown away at once, in bytes.
const SCRAP_BYTES: usize = 512;

/// Reads of one poll; a target that goes on sending is not read for ever.
const BUDGET: usize = 64;

/// A connection on its way out. Dropping it closes it.
pub(super) struct Farewell {
    pub(super) cid: Cid,
    /// How much of its stream the network had taken.
    pub(super) written: u64,
    read: OwnedReadHalf,
    /// Kept, because its end would send our FIN.
    _write: OwnedWriteHalf,
    patience: Pin<Box<Sleep>>,
}

impl Farewell {
    pub(super) fn new(cid: Cid, written: u64, read: OwnedReadHalf, write: OwnedWriteHalf) -> Self {
        Self {
            cid,
            written,
            read,
            _write: write,
            patience: Box::pin(tokio::time::sleep(PATIENCE)),
        }
    }

    /// Ready when the target has closed its direction, the connection is broken, or the time for
    /// that is up.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.patience.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        for _ in 0..BUDGET {
            let mut scrap = [0; SCRAP_BYTES];
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(&mut self.read).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{advance, pause};

    use super::*;

    /// A farewell, and the target it is said to.
    async fn farewell() -> (Farewell, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (read, write) = ours.unwrap().into_split();
        let farewell = Farewell::new(Cid(1), 0, read, write);
        (farewell, theirs.unwrap().0)
    }

    async fn is_over(farewell: &mut Farewell) -> bool {
        poll_fn(|cx| Poll::Ready(farewell.poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn the_targets_fin_comes_first() {
        let (mut farewell, mut target) = farewell().await;
        target.write_all(&[0; 3 * SCRAP_BYTES]).await.unwrap();
        assert!(!is_over(&mut farewell).await);
        // Ours has not been sent: the target has nothing to read.
        let mut byte = [0; 1];
        let nothing = target.try_read(&mut byte).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        target.shutdown().await.unwrap();
        poll_fn(|cx| farewell.poll(cx)).await;
        drop(farewell);
        // FIN, not RST: all that came was read.
        assert_eq!(target.read(&mut byte).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_target_that_does_not_close_is_waited_for_two_seconds() {
        let (mut farewell, target) = farewell().await;
        pause();
        advance(Duration::from_millis(1990)).await;
        assert!(!is_over(&mut farewell).await);
        advance(Duration::from_millis(20)).await;
        assert!(is_over(&mut farewell).await);
        drop(target);
    }
}
