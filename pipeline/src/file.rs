//! Opening files that a person names.
//!
//! When a process starts, a configuration may come through a pipe: `--config <(generate)`, `--config /dev/stdin`. Such a
//! text can be read once. What is read while the process runs must be a regular file: a pipe would be waited for, perhaps
//! for good, and what it holds may be meant for somebody else.
//!
//! Decision: the type is looked at before the file is opened, and again once it is open. Whoever swaps the file between
//! the two is waited for, so that this is done where waiting disturbs nobody.

use std::fs::{File, FileType};
use std::io;
use std::path::Path;

/// How often a file has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// Not yet: the process starts, and it may wait.
    First,
    /// The process runs, and reads it once more.
    Again,
}

/// Opens a file to read it.
///
/// # Errors
/// Those of the system; and if it is to be read again and is no regular file.
pub fn open(path: &Path, reading: Reading) -> io::Result<File> {
    if reading == Reading::First {
        return File::open(path);
    }
    check(std::fs::metadata(path)?.file_type())?;
    let file = File::open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

fn check(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    let found = if kind.is_dir() { "a directory" } else { of_unix(kind).unwrap_or("no regular file") };
    Err(io::Error::other(format!("it is {found}, which cannot be read again while Weir runs: give a regular file")))
}

#[cfg(unix)]
fn of_unix(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt;
    let kinds = [(kind.is_fifo(), "a pipe"), (kind.is_socket(), "a socket")];
    let devices = [(kind.is_char_device() || kind.is_block_device(), "a device")];
    kinds.into_iter().chain(devices).find_map(|(is_it, name)| is_it.then_some(name))
}

#[cfg(not(unix))]
fn of_unix(_: FileType) -> Option<&'static str> {
    None
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn refused(path: &str) -> String {
        open(path.as_ref(), Reading::Again).unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_is_read_again() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        for reading in [Reading::First, Reading::Again] {
            let mut text = String::new();
            open(path, reading).unwrap().read_to_string(&mut text).unwrap();
            assert!(text.contains("weir-pipeline"));
        }
        assert!(refused("/no/such/file").contains("No such file"));
        let advice = "which cannot be read again while Weir runs: give a regular file";
        assert_eq!(refused(env!("CARGO_MANIFEST_DIR")), format!("it is a directory, {advice}"));
        assert_eq!(refused("/dev/null"), format!("it is a device, {advice}"));
        assert!(open("/dev/null".as_ref(), Reading::First).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_that_nobody_writes_to_is_not_waited_for() {
        let (reader, _writer) = io::pipe().unwrap();
        let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        assert!(refused(&path).starts_with("it is a pipe, "));
    }
}
