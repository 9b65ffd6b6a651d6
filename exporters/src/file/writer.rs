//! The file itself: buffered, rotated, never torn.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use weir_pipeline::clock::Environment;
use weir_pipeline::telemetry::ExporterCounters;

use super::BUFFER;
use super::config::{FileSettings, Rotation};
use crate::calendar::Civil;

/// Who counts how many records.
type Share = (ExporterCounters, usize);

/// Writes requests one after the other.
pub(super) struct Writer {
    settings: FileSettings,
    environment: Environment,
    file: Option<File>,
    /// Whether the file was opened before, by this process.
    was_open: bool,
    /// Length of the file; what is behind it was not written completely.
    length: u64,
    buffer: Vec<u8>,
    /// Whose records are in the buffer.
    shares: Vec<Share>,
    /// Whether the last attempt to write failed, and was logged.
    is_broken: bool,
    next_stamp_millis: u64,
}

impl Writer {
    /// A writer that has not opened its file.
    pub(super) fn new(settings: FileSettings, environment: Environment) -> Self {
        Self {
            settings,
            environment,
            file: None,
            was_open: false,
            length: 0,
            buffer: Vec::new(),
            shares: Vec::new(),
            is_broken: false,
            next_stamp_millis: 0,
        }
    }

    /// Takes a request. Its records are counted once they are written, unless this fails.
    pub(super) fn write(&mut self, record: &[u8], share: Share) -> io::Result<()> {
        // Opened first, so that the length counts what an earlier run wrote.
        self.attempt(Self::open)?;
        let waiting = self.buffer.len() as u64;
        if let Some(Rotation { max_bytes, .. }) = self.settings.rotation
            && self.length + waiting > 0
            && self.length + waiting + record.len() as u64 > max_bytes
        {
            self.flush()?;
            self.attempt(Self::rotate)?;
        }
        if !self.buffer.is_empty() && self.buffer.len() + record.len() > BUFFER {
            self.flush()?;
        }
        self.buffer.extend_from_slice(record);
        self.shares.push(share);
        if self.settings.flush_interval.is_none() {
            // The newest one is the client's to send again; what stays in the buffer are those before.
            if let Err(error) = self.flush() {
                self.buffer.truncate(self.buffer.len() - record.len());
                self.shares.pop();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes what waits. If that fails it goes on waiting.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.attempt(|writer| {
            writer.open()?;
            let Some(file) = &mut writer.file else { return Ok(()) };
            if let Err(error) = file.write_all(&writer.buffer) {
                // What was written of it would be taken for a request.
                let restored = file.set_len(writer.length).and_then(|()| file.seek(SeekFrom::Start(writer.length)));
                if restored.is_err() {
                    writer.file = None;
                }
                return Err(error);
            }
            writer.length += writer.buffer.len() as u64;
            Ok(())
        })?;
        self.buffer.clear();
        self.shares.drain(..).for_each(|(counters, records)| counters.succeed(records));
        Ok(())
    }

    /// Writes what waits, or counts it as lost.
    pub(super) fn close(&mut self) {
        if self.flush().is_err() {
            self.buffer.clear();
            self.shares.drain(..).for_each(|(counters, records)| counters.fail(records, "write_error"));
        }
        self.file = None;
    }

    /// Does `work` and logs the first failure after a success.
    fn attempt<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let result = work(self);
        match &result {
            Ok(_) => self.is_broken = false,
            Err(error) if !std::mem::replace(&mut self.is_broken, true) => {
                let path = self.settings.path.display();
                tracing::error!(%error, "the file exporter cannot write to {path}; it will try again");
            }
            Err(_) => {}
        }
        result
    }

    fn open(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = &self.settings.path;
        if let (Some(permissions), Some(folder)) = (self.settings.create_directory, path.parent()) {
            create_folders(folder, permissions)?;
        }
        let keeps = self.settings.append || self.settings.rotation.is_some() || self.was_open;
        let mut file = OpenOptions::new().create(true).write(true).truncate(!keeps).open(path)?;
        if self.was_open {
            // After a write that could not be taken back.
            file.set_len(self.length)?;
        }
        self.length = file.seek(SeekFrom::End(0))?;
        self.file = Some(file);
        self.was_open = true;
        Ok(())
    }

    /// Puts the file aside and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        // Names go up even where the clock does not, since the lowest is taken for the oldest.
        let now_millis = (self.environment.now_unix_nanos() / 1_000_000).max(self.next_stamp_millis);
        self.next_stamp_millis = now_millis.saturating_add(1);
        let aside = (now_millis..).map(|millis| self.aside(&stamp(millis))).find(|path| !path.exists());
        if let Some(aside) = aside {
            self.file = None;
            fs::rename(&self.settings.path, aside)?;
            (self.length, self.was_open) = (0, false);
        }
        self.open()?;
        self.remove_old(now_millis);
        Ok(())
    }

    /// Removes files that were put aside and are too old or too many. That one cannot be removed is no reason to stop
    /// writing.
    fn remove_old(&self, now_millis: u64) {
        let Some(Rotation { max_age, max_backups, .. }) = self.settings.rotation else { return };
        let oldest = max_age.map(|age| {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.aside(&stamp(now_millis.saturating_sub(age)))
        });
        let backups = self.backups();
        let surplus = max_backups.map_or(0, |most| backups.len().saturating_sub(most));
        for (i, backup) in backups.iter().enumerate() {
            let is_old = oldest.as_ref().is_some_and(|oldest| backup < oldest);
            if (i < surplus || is_old)
                && let Err(error) = fs::remove_file(backup)
            {
                tracing::warn!(%error, "the file exporter cannot remove {}", backup.display());
            }
        }
    }

    /// Files that were put aside, oldest first.
    fn backups(&self) -> Vec<PathBuf> {
        let (prefix, suffix) = self.affixes();
        let folder = match self.settings.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let is_backup = |name: &OsStr| {
            let stamp = name.to_str().and_then(|n| n.strip_prefix(&prefix)?.strip_suffix(&suffix));
            stamp.is_some_and(is_stamp)
        };
        let mut names: Vec<_> = entries.map(|e| e.file_name()).filter(|name| is_backup(name)).collect();
        names.sort();
        names.into_iter().map(|name| self.settings.path.with_file_name(name)).collect()
    }

    fn aside(&self, stamp: &str) -> PathBuf {
        let (prefix, suffix) = self.affixes();
        self.settings.path.with_file_name(format!("{prefix}{stamp}{suffix}"))
    }

    /// What stands around the time in the name of a file that was put aside.
    fn affixes(&self) -> (String, String) {
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let suffix = self.settings.path.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
        (format!("{}-", text(self.settings.path.file_stem())), suffix)
    }
}

/// Makes a folder and those that it is to be in, where they are missing. The umask takes what it takes.
fn create_folders(folder: &Path, permissions: u32) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, permissions);
    #[cfg(not(unix))]
    let _ = permissions;
    builder.recursive(true).create(folder)
}

/// `2026-08-01T10-20-30.123`: sorts as time does.
fn stamp(unix_millis: u64) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::of_unix_seconds(unix_millis / 1_000);
    let millis = unix_millis % 1_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{millis:03}")
}

fn is_stamp(text: &str) -> bool {
    let pattern = "0000-00-00T00-00-00.000";
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(c, p)| if p == b'0' { c.is_ascii_digit() } else { c == p })
}
