//! Ctrl-C and its relatives: the first one ends the run in good order (in-flight commands are
//! ended, sessions logged out), a second one ends it at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{Failure, Signal, Status};

/// Tells whether the user wants to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(watch::Receiver<Option<Signal>>);

impl Interrupt {
    /// Listens from now on. Needs a runtime.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            loop {
                let which = tokio::select! {
                    Some(()) = interrupt.recv() => Signal::Interrupt,
                    Some(()) = terminate.recv() => Signal::Terminate,
                    Some(()) = hangup.recv() => Signal::Hangup,
                    else => return,
                };
                if sender.borrow().is_some() {
                    std::process::exit(i32::from(Status::Interrupted(which).code()));
                }
                if sender.send(Some(which)).is_err() {
                    return;
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Waits for a signal; for ever if none comes.
    pub(crate) async fn wait(&mut self) -> Signal {
        match self.0.wait_for(Option::is_some).await.map(|signal| *signal) {
            Ok(Some(signal)) => signal,
            _ => std::future::pending().await,
        }
    }

    /// Runs `work` to its end, or drops it when a signal comes.
    ///
    /// # Errors
    /// Those of `work`, or [`Failure::Interrupted`].
    pub(crate) async fn guard<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut interrupt = self.clone();
        tokio::select! {
            biased;
            signal = interrupt.wait() => Err(Failure::Interrupted(signal).into()),
            result = work => result,
        }
    }
}
