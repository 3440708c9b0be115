//! What applications ask of a session beside commands: task management, changes of parameters,
//! the addresses of its target.
//!
//! A future that is dropped leaves its request to be carried out without it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use scsi::Lun;

use super::handle::{LunNexus, SessionHandle};
use super::shared::Shared;
use crate::discovery::{DiscoveredTarget, SendTargetsAnswer, SendTargetsError};
use crate::name::IscsiName;
use crate::session::{
    Applied, ManagementFunction, Session, SetError, TaskKey, TaskManagementError,
    TaskManagementResponse, TextExchangeError, TextOutcome,
};

/// When a change of a parameter took or takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At once.
    Now,
    /// It was declared to the target, and is in force.
    Renegotiated,
    /// With the next login.
    NextLogin,
}

/// Why the addresses of a target could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetsError {
    /// No answer.
    #[error(transparent)]
    Text(#[from] TextExchangeError),
    /// The answer cannot be used.
    #[error(transparent)]
    Answer(#[from] SendTargetsError),
}

impl SessionHandle {
    /// Has the target carry out a task management function (RFC 7143 §11.5; RFC 7144 §6), and
    /// waits for its response. `lun` counts for functions that address a logical unit.
    ///
    /// # Errors
    /// [`TaskManagementError`]: nothing was sent, or there was no response.
    pub async fn task_management(
        &self,
        lun: Lun,
        function: ManagementFunction,
    ) -> Result<TaskManagementResponse, TaskManagementError> {
        let shared = self.shared();
        let key = shared.with_session(|session, now| session.manage(now, lun, function))?;
        Waiting {
            shared,
            key: Some(key),
            poll: Session::poll_management,
            forget: Session::forget_management,
        }
        .await
    }

    /// Changes what is offered or declared for a key, both spelled as on the wire, and waits until
    /// that has taken effect, if it can before the next login.
    ///
    /// # Errors
    /// The key cannot be set like that, or the target refused it; then it is in the next login's
    /// offer all the same.
    pub async fn set(&self, key: &str, value: &str) -> Result<Effect, SetError> {
        let shared = self.shared();
        let key = match shared.with_session(|session, now| session.set(now, key, value))? {
            Applied::AtOnce => return Ok(Effect::Now),
            Applied::NextLogin => return Ok(Effect::NextLogin),
            Applied::Renegotiating(key) => key,
        };
        let outcome = Waiting {
            shared,
            key: Some(key),
            poll: Session::poll_text,
            forget: Session::forget_text,
        }
        .await?;
        Ok(match outcome {
            TextOutcome::Done(_) => Effect::Renegotiated,
            TextOutcome::NextLogin => Effect::NextLogin,
        })
    }

    /// The portals of this session's target, or of `target` where a target tells of others, without
    /// a discovery session (RFC 7143 Appendix C).
    ///
    /// # Errors
    /// The target does not answer, or not with what can be used.
    pub async fn targets(
        &self,
        target: Option<&IscsiName>,
    ) -> Result<Vec<DiscoveredTarget>, TargetsError> {
        let shared = self.shared();
        let key = shared.with_session(|session, now| session.ask_targets(now, target))?;
        let outcome = Waiting {
            shared,
            key: Some(key),
            poll: Session::poll_text,
            forget: Session::forget_text,
        }
        .await?;
        let TextOutcome::Done(pairs) = outcome else {
            return Err(TextExchangeError::Down.into());
        };
        let snapshot = self.snapshot();
        let group = snapshot.session.target_portal_group_tag;
        let answer = SendTargetsAnswer::new(snapshot.portal, group);
        Ok(answer.targets(&pairs)?)
    }
}

impl LunNexus {
    /// [`SessionHandle::task_management`] for this logical unit.
    ///
    /// # Errors
    /// [`TaskManagementError`]: nothing was sent, or there was no response.
    pub async fn task_management(
        &self,
        function: ManagementFunction,
    ) -> Result<TaskManagementResponse, TaskManagementError> {
        let lun = self.lun();
        self.session().task_management(lun, function).await
    }

    /// The commands of this logical unit that are under way, with their operation codes, for
    /// functions that name a task.
    #[must_use]
    pub fn outstanding(&self) -> Vec<(TaskKey, u8)> {
        self.session()
            .shared()
            .core()
            .session
            .outstanding(self.lun())
    }
}

/// A request under way.
struct Waiting<'a, K: Copy, T> {
    shared: &'a Shared,
    /// `None` once it is answered.
    key: Option<K>,
    poll: fn(&mut Session, K, &Waker) -> Poll<T>,
    forget: fn(&mut Session, K),
}

impl<K: Copy + Unpin, T> Future for Waiting<'_, K, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(key) = self.key else {
            return Poll::Pending;
        };
        let poll = self.poll;
        let polled = poll(&mut self.shared.core().session, key, cx.waker());
        if polled.is_ready() {
            self.key = None;
        }
        polled
    }
}

impl<K: Copy, T> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            (self.forget)(&mut self.shared.core().session, key);
        }
    }
}
