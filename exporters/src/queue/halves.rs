//! Cutting a batch in two, if it can be.

use weir_pipeline::batch::Batch;

/// Two batches with about as many records each, or the batch itself if it has but one. Both hold branches of its receipts.
pub(super) fn halves(batch: Batch) -> Result<(Batch, Batch), Batch> {
    let at = batch.len() / 2;
    cut(batch, at)
}

/// The first `at` records, and the others; the batch itself if one of the two would be none.
pub(super) fn cut(mut batch: Batch, at: usize) -> Result<(Batch, Batch), Batch> {
    if at == 0 || at >= batch.len() {
        return Err(batch);
    }
    let rest = batch.split_off(at);
    Ok((batch, rest))
}
