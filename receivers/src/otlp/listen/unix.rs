//! Unix domain sockets: one for all lanes, and the file that stands for it.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, SockAddr, Socket, Type};

use super::{ListenError, Listener};

/// Opens a socket for `lanes` lanes, in place of one that nobody listens on any more.
pub(super) fn listen(path: &Path, lanes: usize) -> Result<Vec<Listener>, ListenError> {
    let failed = |error| ListenError::Path(path.to_owned(), error);
    remove_stale(path)?;
    let socket = UnixListener::bind(path).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::SocketInUse(path.to_owned()),
        _ => failed(error),
    })?;
    let file = Arc::new(SocketFile::new(path).map_err(failed)?);
    socket.set_nonblocking(true).map_err(failed)?;
    let clones = (0..lanes.max(1)).map(|_| Ok(Listener::Unix(socket.try_clone()?, Arc::clone(&file))));
    clones.collect::<io::Result<_>>().map_err(failed)
}

/// Removes a socket's file that a process left behind which ended without being asked.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::Path(path.to_owned(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NoSocket(path.to_owned())),
        Ok(_) => {}
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody listens, and has so many connections waiting that there is no room for another.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ListenError::SocketInUse(path.to_owned())),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ListenError::SocketInUse(path.to_owned())),
    }
}

/// Connects, or fails at once: whoever listens may not accept for a long time.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The file of a socket. Removed with it, unless another process has put its own there meanwhile.
#[derive(Debug)]
pub(in crate::otlp) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Whether it is still there: others may have removed it, or put theirs in its place.
    pub(in crate::otlp) fn is_there(&self) -> bool {
        let is_ours = |found: &fs::Metadata| found.dev() == self.device && found.ino() == self.inode;
        fs::symlink_metadata(&self.path).is_ok_and(|found| is_ours(&found))
    }

    /// Where it is.
    pub(in crate::otlp) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // Whoever starts next replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_the_file_removed_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "what a killed process leaves behind");
        let sockets = listen(&path, 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(matches!(listen(&path, 1), Err(ListenError::SocketInUse(p)) if p == path));
        let mut sockets = sockets.into_iter();
        drop((sockets.next(), sockets.next()));
        assert!(path.exists(), "a lane still listens");
        drop(sockets);
        assert!(!path.exists());
    }

    #[test]
    fn a_listener_that_does_not_accept_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("otlp.sock");
        let theirs = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        theirs.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        theirs.listen(0).unwrap();
        // As many connections as have room.
        let waiting: Vec<_> = std::iter::from_fn(|| connect(&path).ok()).take(1000).collect();
        assert!((1..1000).contains(&waiting.len()), "{}", waiting.len());
        assert!(matches!(listen(&path, 1), Err(ListenError::SocketInUse(p)) if p == path));
        assert!(path.exists());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "precious").unwrap();
        let error = listen(&path, 1).unwrap_err().to_string();
        assert!(error.ends_with("exists and is no socket: choose another path, or remove it"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        // A socket of another process in the place of ours.
        let path = directory.path().join("otlp.sock");
        let sockets = listen(&path, 1).unwrap();
        fs::remove_file(&path).unwrap();
        let theirs = UnixListener::bind(&path).unwrap();
        drop(sockets);
        assert!(path.exists());
        drop(theirs);
        let error = listen(&directory.path().join("no/such/otlp.sock"), 1).unwrap_err().to_string();
        assert!(error.starts_with("cannot listen on "), "{error}");
    }
}
