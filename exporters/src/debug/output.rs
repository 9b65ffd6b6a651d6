//! Where the text goes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

/// Writes everything to each of several places.
pub(super) struct Outputs(Vec<Output>);

enum Output {
    Stdout,
    Stderr,
    /// A file, opened to be appended to when there is something to write.
    File(PathBuf, Option<File>),
}

impl Outputs {
    /// The places that `output_paths` names: `stdout`, `stderr` or files.
    pub(super) fn new(paths: &[String]) -> Self {
        let output = |path: &String| match path.as_str() {
            "stdout" => Output::Stdout,
            "stderr" => Output::Stderr,
            file => Output::File(PathBuf::from(file), None),
        };
        Self(paths.iter().map(output).collect())
    }
}

impl Write for Outputs {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    /// Tries all of them; the first error is told.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let results: Vec<io::Result<()>> = self.0.iter_mut().map(|output| output.write_all(bytes)).collect();
        results.into_iter().collect()
    }

    fn flush(&mut self) -> io::Result<()> {
        let flush = |output: &mut Output| match output {
            Output::Stdout => io::stdout().flush(),
            Output::Stderr => io::stderr().flush(),
            Output::File(_, file) => file.as_mut().map_or(Ok(()), Write::flush),
        };
        self.0.iter_mut().try_for_each(flush)
    }
}

impl Output {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(bytes),
            Self::Stderr => io::stderr().write_all(bytes),
            Self::File(path, file) => match file {
                Some(file) => file.write_all(bytes),
                none => {
                    let file = OpenOptions::new().create(true).append(true).open(path)?;
                    none.insert(file).write_all(bytes)
                }
            },
        }
    }
}
