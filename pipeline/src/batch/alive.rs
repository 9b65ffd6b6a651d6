//! Which spans of a chunk are still alive.

/// A bitmap that costs nothing while every span lives.
#[derive(Debug, Clone)]
pub(super) struct Alive {
    len: usize,
    /// `None`: all of them.
    words: Option<Box<[u64]>>,
}

impl Alive {
    pub(super) fn all(len: usize) -> Self {
        Self { len, words: None }
    }

    pub(super) fn is_all(&self) -> bool {
        self.words.is_none()
    }

    #[inline]
    pub(super) fn contains(&self, id: usize) -> bool {
        match &self.words {
            None => id < self.len,
            Some(words) => words.get(id / 64).is_some_and(|w| w >> (id % 64) & 1 == 1),
        }
    }

    pub(super) fn clear(&mut self, id: usize) {
        let words = self.words.get_or_insert_with(|| {
            let mut words = vec![u64::MAX; self.len.div_ceil(64)];
            if let Some(last) = words.last_mut()
                && !self.len.is_multiple_of(64)
            {
                *last = (1 << (self.len % 64)) - 1;
            }
            words.into()
        });
        if let Some(word) = words.get_mut(id / 64) {
            *word &= !(1 << (id % 64));
        }
    }

    pub(super) fn ones(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.len).filter(|&id| self.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_leaves_the_others() {
        for len in [1, 63, 64, 65, 130] {
            let mut alive = Alive::all(len);
            assert!(alive.is_all());
            alive.clear(len - 1);
            alive.clear(0);
            assert_eq!(alive.ones().collect::<Vec<_>>(), (1..len.max(2) - 1).collect::<Vec<_>>(), "{len}");
            assert!(!alive.contains(len));
        }
    }
}
