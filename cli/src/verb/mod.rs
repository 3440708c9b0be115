//! One module per verb.

pub(crate) mod bench;
pub(crate) mod cp;
pub(crate) mod demo;
pub(crate) mod discover;
pub(crate) mod info;
pub(crate) mod ls;
pub(crate) mod paths;
pub(crate) mod pr;
pub(crate) mod read;
pub(crate) mod reset;
pub(crate) mod secret;
pub(crate) mod write;
