//! Cutting a batch in two, if it can be.

use weir_pipeline::batch::Batch;

/// Two batches with about as many records each, or the batch itself if it has but one. Both hold branches of its receipts.
pub(super) fn halves(mut batch: Batch) -> Result<(Batch, Batch), Batch> {
    let at = batch.len() / 2;
    if at == 0 {
        return Err(batch);
    }
    let rest = batch.split_off(at);
    Ok((batch, rest))
}
