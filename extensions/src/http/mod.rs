//! Small pages over HTTP/1.1, for people and machines that look after the process.
//!
//! Not for data: few connections at a time, no request bodies, and a client that is slow is disconnected.

mod endpoint;
mod extension;
mod server;
#[cfg(test)]
pub(crate) mod testing;

pub(crate) use self::endpoint::{Endpoint, ListenError};
pub(crate) use self::extension::Site;
pub(crate) use self::server::{Ask, Page, Pages, Server, page};
