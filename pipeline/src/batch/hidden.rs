//! A set of attributes, by the numbers that the index has given them.

/// Grows with the highest number that was inserted: a bit for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden(Vec<u64>);

impl Hidden {
    #[inline]
    pub(crate) fn insert(&mut self, number: u32) {
        let at = number as usize / 64;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(word) = self.0.get_mut(at) {
            *word |= 1 << (number % 64);
        }
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}
