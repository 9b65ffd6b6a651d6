//! An extension that serves pages between start and stop, and does nothing else.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use weir_pipeline::extension::Extension;
use weir_pipeline::node::{Context, StartError};
use weir_pipeline::sockets::Sockets;

use super::{Endpoint, Pages, Server};

/// Pages, and where they are served.
pub struct PageExtension {
    id: String,
    endpoint: Endpoint,
    sockets: Sockets,
    pages: Arc<dyn Pages>,
    server: Mutex<Option<Arc<Server>>>,
}

impl PageExtension {
    /// An extension that listens nowhere yet.
    pub fn new(context: &Context, endpoint: Endpoint, pages: Arc<dyn Pages>) -> Self {
        Self { id: context.id.clone(), endpoint, sockets: context.sockets.clone(), pages, server: Mutex::new(None) }
    }
}

#[async_trait]
impl Extension for PageExtension {
    async fn start(&self) -> Result<(), StartError> {
        let failed = |message: String| StartError {
            component: self.id.clone(),
            message: format!("{message} (extensions::{}::endpoint)", self.id),
        };
        let sockets = self.endpoint.listen(&self.sockets).map_err(|error| failed(error.to_string()))?;
        let server = Server::start(sockets, &self.pages).map_err(|error| failed(error.to_string()))?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(server));
        Ok(())
    }

    async fn stop(&self) {
        self.sockets.release();
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.stop().await;
        }
    }

    fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.iter().flat_map(|server| server.addresses()).map(|address| ("http", *address)).collect()
    }
}

impl fmt::Debug for PageExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageExtension").field("id", &self.id).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
