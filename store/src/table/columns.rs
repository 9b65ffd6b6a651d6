//! Columns that were added since a table was made.
//!
//! They can all be null, so that a file which lacks them is read with nulls. A writer that is older than the table goes on
//! as before: its files lack them too.

use std::time::Duration;

use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::kernel::{StructField, StructType};

use crate::{StoreError, schema};

/// How often it is tried while others commit.
const ATTEMPTS: u32 = 20;

/// Adds the columns that the table lacks. Several processes may do so at once.
pub(super) async fn complete(mut table: DeltaTable) -> Result<DeltaTable, StoreError> {
    let mut attempts = 0;
    loop {
        let lacking = lacking(&table)?;
        if lacking.is_empty() {
            return Ok(table);
        }
        let names: Vec<_> = lacking.iter().map(|field| field.name().clone()).collect();
        let properties = CommitProperties::default()
            // Tried again only after a look at what the others did: it may have been the same.
            .with_max_retries(0)
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        match table.clone().add_columns().with_fields(lacking).with_commit_properties(properties).await {
            Ok(_) => tracing::info!(columns = names.join(", "), "the table of an older version got new columns"),
            Err(source) if attempts >= ATTEMPTS => {
                return Err(StoreError::Commit { attempts, source: Box::new(source) });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20) * attempts).await,
        }
        attempts += 1;
        table.update_incremental(None).await?;
    }
}

/// The fields of this version that the table does not have.
fn lacking(table: &DeltaTable) -> Result<Vec<StructField>, StoreError> {
    let known = table.snapshot()?.schema();
    let ours: StructType = schema::spans().as_ref().try_into_kernel()?;
    let lacking: Vec<StructField> =
        ours.fields().filter(|field| known.field(field.name()).is_none()).cloned().collect();
    match schema::COLUMNS.iter().find(|(name, _, nullable)| !nullable && known.field(name).is_none()) {
        Some((column, ..)) => Err(StoreError::Column {
            column,
            message: "the table lacks it, so this is no table of spans that Weir made".to_owned(),
        }),
        None => Ok(lacking),
    }
}
