//! What the extensions that serve pages have in common: they listen between start and stop.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use weir_pipeline::node::{Context, StartError};
use weir_pipeline::sockets::Sockets;

use super::{Endpoint, Pages, Server};

/// A server that is started and stopped by an extension.
#[derive(Debug)]
pub struct Site {
    id: String,
    endpoint: Endpoint,
    sockets: Sockets,
    server: Mutex<Option<Arc<Server>>>,
}

impl Site {
    /// The site of an extension; it listens nowhere yet.
    pub fn new(context: &Context, endpoint: Endpoint) -> Self {
        Self { id: context.id.clone(), endpoint, sockets: context.sockets.clone(), server: Mutex::new(None) }
    }

    /// Listens, and serves `pages` in tasks of the runtime that this is called in.
    ///
    /// # Errors
    /// If it cannot listen on its address.
    pub fn start(&self, pages: &Arc<dyn Pages>) -> Result<(), StartError> {
        let failed = |message: String| StartError {
            component: self.id.clone(),
            message: format!("{message} (extensions::{}::endpoint)", self.id),
        };
        let sockets = self.endpoint.listen(&self.sockets).map_err(|error| failed(error.to_string()))?;
        let server = Server::start(sockets, pages).map_err(|error| failed(error.to_string()))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(server));
        Ok(())
    }

    /// Stops serving.
    pub async fn stop(&self) {
        self.sockets.release();
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    /// What it listens on.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.iter().flat_map(|server| server.addresses()).map(|address| ("http", *address)).collect()
    }
}
