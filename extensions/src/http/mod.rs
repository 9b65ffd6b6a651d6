//! Small pages over HTTP/1.1, for people and machines that look after the process.
//!
//! Not for data: few connections at a time, small request bodies or none, and a client that is slow is disconnected,
//! as is one that is idle, or has sent half a request, while another has no room: a probe must not wait for them.

mod endpoint;
mod extension;
mod room;
mod server;
#[cfg(test)]
pub(crate) mod testing;

pub use self::endpoint::{Endpoint, ListenError};
pub use self::extension::PageExtension;
pub use self::server::{Ask, BodyError, Page, Pages, Server, page};
