//! Following redirections (RFC 7143 §11.13.5) without running in circles.

use thiserror::Error;

use crate::name::Portal;

/// Redirections followed in one login by default.
pub const REDIRECTS_MAX: usize = 8;

/// Why a redirection is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// The target sends us where we have been.
    #[error("redirected in a circle: {portal} was tried before")]
    Loop {
        /// The portal named again.
        portal: Portal,
    },
    /// Too many.
    #[error("more than {limit} redirections; the last one to {portal}")]
    TooMany {
        /// How many are followed.
        limit: usize,
        /// The one that was too much.
        portal: Portal,
    },
}

/// The portals that one login went through.
#[derive(Debug, Clone)]
pub struct RedirectTrail {
    visited: Vec<Portal>,
    limit: usize,
}

impl RedirectTrail {
    /// A trail that starts at `portal` and takes at most `limit` redirections.
    #[must_use]
    pub fn new(portal: Portal, limit: usize) -> Self {
        Self {
            visited: vec![portal],
            limit,
        }
    }

    /// Notes a redirection to `portal`.
    ///
    /// # Errors
    ///
    /// When the portal was visited before, or the limit is reached.
    pub fn follow(&mut self, portal: &Portal) -> Result<(), RedirectError> {
        let portal = portal.clone();
        if self.visited.contains(&portal) {
            return Err(RedirectError::Loop { portal });
        }
        let limit = self.limit;
        if self.visited.len() > limit {
            return Err(RedirectError::TooMany { limit, portal });
        }
        self.visited.push(portal);
        Ok(())
    }

    /// All portals so far, the first one first.
    #[must_use]
    pub fn visited(&self) -> &[Portal] {
        &self.visited
    }
}
