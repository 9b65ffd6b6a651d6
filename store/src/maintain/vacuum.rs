//! Deleting files that no query needs any more.

use std::time::Duration;

use object_store::ObjectMeta;
use object_store::path::Path;

use super::folders::{Folders, is_data, within};
use super::spans::Spans;
use super::{Freed, Settings};
use crate::StoreError;

/// Deletes files that the log has removed long ago, and those that no commit has named for long; with `dry_run` it only
/// says how many they are.
pub(super) async fn vacuum(
    folders: &Folders<'_>,
    project: &str,
    spans: &mut Spans,
    settings: &Settings,
    now_unix_nano: u64,
    dry_run: bool,
) -> Result<Freed, StoreError> {
    let now = i64::try_from(now_unix_nano / 1_000_000).unwrap_or(i64::MAX);
    let before = |age: Duration| now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (removed_before, orphaned_before) = (before(settings.safe_age), before(settings.orphan_age));
    let table = folders.spans(project);
    let mut objects = folders.list(&table).await?;
    // Read after the list, so that a file which was committed meanwhile is known to be live.
    spans.refresh().await?;
    let live: foldhash::HashSet<Path> = spans.files()?.into_iter().map(|file| file.path).collect();
    let removed: foldhash::HashMap<Path, i64> = spans.removed().await?.into_iter().collect();
    let is_needless = |object: &ObjectMeta| {
        let Some(path) = within(&table, &object.location).filter(|path| is_data(path) && !live.contains(path)) else {
            return false;
        };
        match removed.get(&path) {
            Some(at) => *at < removed_before,
            None => object.last_modified.timestamp_millis() < orphaned_before,
        }
    };
    objects.retain(is_needless);
    if dry_run {
        return Ok(Freed { objects: objects.len() as u64, bytes: objects.iter().map(|object| object.size).sum() });
    }
    folders.delete(objects).await
}
