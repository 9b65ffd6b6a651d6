//! Which files are followed. A file stays the same one under whatever name it is found, and is kept open, so that what
//! was written before it was renamed or removed is not lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::tail::{Identity, Tail};

/// Files that are kept open. Where a file is its name, an open one would hide that another has taken the name.
const MAX_OPEN: usize = if cfg!(unix) { 256 } else { 0 };

/// For so long a file is read further that no name matches any more. A writer needs a moment to see that its file was
/// moved, and a file that is being renamed may be missing in a listing of its folder.
const GRACE: Duration = Duration::from_secs(10);

/// The files that are followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    tails: BTreeMap<Identity, Tail>,
    /// How many of them are open.
    open: usize,
}

impl Followed {
    /// Takes note of the names that match now. Returns the files to read: those that have lost their names, whose content
    /// is the oldest, then the others in the order of their names. New ones are read from their end if `at_end`.
    pub(super) fn look(&mut self, paths: BTreeSet<PathBuf>, at_end: bool, now: Instant) -> Vec<Identity> {
        let mut open = self.open;
        let (mut named, mut due) = (BTreeSet::new(), Vec::new());
        for path in paths {
            let Ok(metadata) = path.metadata() else { continue };
            let id = Identity::of(&path, &metadata);
            // One file may have several names.
            if !named.insert(id.clone()) {
                continue;
            }
            let is_new = !self.tails.contains_key(&id);
            let tail = self.tails.entry(id.clone()).or_insert_with(|| Tail::new(path.clone(), id.clone()));
            (tail.path, tail.gone_since) = (path, None);
            let was_open = tail.is_open();
            // What cannot be opened is said when it is read.
            if is_new && at_end {
                let _ = tail.skip_to_end(metadata.len());
            } else if open < MAX_OPEN {
                let _ = tail.open();
            }
            if tail.is_open() && !was_open {
                if open < MAX_OPEN {
                    open += 1;
                } else {
                    tail.close();
                }
            }
            if tail.may_have_grown(&metadata) {
                due.push(id);
            }
        }
        self.open = open;
        let mut nameless = Vec::new();
        for (id, tail) in &mut self.tails {
            if !named.contains(id) {
                tail.gone_since.get_or_insert(now);
                if tail.is_open() {
                    nameless.push(id.clone());
                }
            }
        }
        nameless.append(&mut due);
        nameless
    }

    /// A file, to be read and [put back](Self::put).
    pub(super) fn take(&mut self, id: &Identity) -> Option<Tail> {
        let tail = self.tails.remove(id)?;
        self.open -= usize::from(tail.is_open());
        Some(tail)
    }

    /// Puts a file back. If too many are open, the one is closed that has not grown for longest.
    pub(super) fn put(&mut self, id: Identity, tail: Tail) {
        self.open += usize::from(tail.is_open());
        self.tails.insert(id, tail);
        if self.open > MAX_OPEN {
            let open = self.tails.values_mut().filter(|tail| tail.is_open());
            // One that has no name cannot be opened again.
            if let Some(tail) = open.min_by_key(|tail| (tail.gone_since.is_some(), tail.grew_at)) {
                tail.close();
                self.open -= 1;
            }
        }
    }

    /// Lets the files go that have had no name for long enough.
    pub(super) fn let_go(&mut self, now: Instant) -> Vec<Tail> {
        let is_over = |tail: &Tail| tail.gone_since.is_some_and(|since| now.duration_since(since) >= GRACE);
        let gone: Vec<Tail> = self.tails.extract_if(.., |_, tail| is_over(tail)).map(|(_, tail)| tail).collect();
        self.open -= gone.iter().filter(|tail| tail.is_open()).count();
        gone
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::*;

    /// What is new in the files of a folder whose names end in `.log`, as text.
    fn read(followed: &mut Followed, folder: &Path, now: Instant) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let paths = entries.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
        let mut all = Vec::new();
        for id in followed.look(paths, false, now) {
            let mut tail = followed.take(&id).unwrap();
            while let Some(chunk) = tail.read().unwrap() {
                all.extend(chunk.records.iter().map(|record| String::from_utf8(record.clone()).unwrap()));
                tail.advance(chunk);
            }
            followed.put(id, tail);
            assert!(followed.tails.values().filter(|tail| tail.is_open()).count() <= MAX_OPEN);
        }
        all
    }

    fn append(path: &Path, text: &str) {
        let file = std::fs::File::options().create(true).append(true).open(path);
        file.unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_without_a_name_is_read_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (mut followed, began) = (Followed::default(), Instant::now());
        let at = |seconds: u64| began + Duration::from_secs(seconds);
        append(&path("a.log"), "1\n");
        assert_eq!(read(&mut followed, folder.path(), at(0)), ["1"]);
        append(&path("a.log"), "2\n");
        std::fs::rename(path("a.log"), path("moved")).unwrap();
        append(&path("a.log"), "3\n");
        assert_eq!(read(&mut followed, folder.path(), at(1)), ["2", "3"], "the older first");
        append(&path("moved"), "4\n5");
        assert_eq!(read(&mut followed, folder.path(), at(2)), ["4"]);
        assert!(followed.let_go(at(10)).is_empty());
        let gone = followed.let_go(at(11));
        assert!(gone.len() == 1 && gone[0].is_torn());
        append(&path("moved"), "6\n");
        assert_eq!(read(&mut followed, folder.path(), at(12)), [""; 0]);
        // One that comes back in time goes on where it was.
        std::fs::rename(path("a.log"), path("moved")).unwrap();
        assert_eq!(read(&mut followed, folder.path(), at(13)), [""; 0]);
        append(&path("moved"), "7\n");
        std::fs::rename(path("moved"), path("b.log")).unwrap();
        assert_eq!(read(&mut followed, folder.path(), at(14)), ["7"]);
        assert!(followed.let_go(at(99)).is_empty());
        // A second name is none of its own, and a removed file is read to its end.
        std::fs::hard_link(path("b.log"), path("c.log")).unwrap();
        append(&path("b.log"), "8\n");
        assert_eq!(read(&mut followed, folder.path(), at(100)), ["8"]);
        append(&path("b.log"), "9\n");
        std::fs::remove_file(path("b.log")).unwrap();
        std::fs::remove_file(path("c.log")).unwrap();
        assert_eq!(read(&mut followed, folder.path(), at(101)), ["9"]);
    }

    #[test]
    fn of_many_files_those_stay_open_that_grow() {
        let folder = tempfile::tempdir().unwrap();
        let path = |i: usize| folder.path().join(format!("{i:03}.log"));
        let (mut followed, now) = (Followed::default(), Instant::now());
        let count = MAX_OPEN + 20;
        let names: Vec<String> = (0..count).map(|i| i.to_string()).collect();
        for round in 0..3 {
            for (i, name) in names.iter().enumerate() {
                append(&path(i), &format!("{name}\n"));
            }
            assert_eq!(read(&mut followed, folder.path(), now), names, "{round}");
        }
        append(&path(0), "a\n");
        assert_eq!(read(&mut followed, folder.path(), now), ["a"]);
        append(&path(0), "b\n");
        std::fs::remove_file(path(0)).unwrap();
        assert_eq!(read(&mut followed, folder.path(), now), ["b"]);
    }
}
