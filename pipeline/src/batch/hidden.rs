//! A set of attributes, by the numbers that the index has given them, with their places.

/// Grows with the highest number that was inserted: a bit for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden {
    bits: Vec<u64>,
    /// In ascending order of the numbers.
    places: Vec<Place>,
}

/// Where the field of a hidden attribute lies in the bytes, from its tag to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    number: u32,
    field: Option<(u32, u32)>,
}

impl Hidden {
    /// Inserts an attribute and where its field lies, if that is known.
    pub(crate) fn insert(&mut self, number: u32, field: Option<(u32, u32)>) {
        if self.contains(number) {
            return;
        }
        let at = number as usize / 64;
        if self.bits.len() <= at {
            self.bits.resize(at + 1, 0);
        }
        if let Some(word) = self.bits.get_mut(at) {
            *word |= 1 << (number % 64);
        }
        // Spans are changed one after the other: the place is at the end or near it.
        let behind = self.places.iter().rev().take_while(|place| place.number > number).count();
        self.places.insert(self.places.len() - behind, Place { number, field });
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        self.bits.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// The places of those from `first` up to `end`, in the order of their numbers.
    pub(crate) fn among(&self, (first, end): (u32, u32)) -> impl Iterator<Item = Option<(u32, u32)>> + Clone {
        let from = self.places.partition_point(|place| place.number < first);
        let rest = self.places.get(from..).unwrap_or_default().iter();
        rest.take_while(move |place| place.number < end).map(|place| place.field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_them_is_what_was_inserted_there() {
        let mut hidden = Hidden::default();
        let all = [0, 1, 63, 64, 70, 127, 128, 200, 1000];
        let place = |number: u32| number.is_multiple_of(2).then_some((number, number + 5));
        for number in [64, 0, 1, 1, 1000, 63, 70, 128, 127, 200, 64] {
            hidden.insert(number, place(number));
        }
        assert!((0..2000).all(|number| hidden.contains(number) == all.contains(&number)));
        for first in 0..210 {
            for end in [first, first + 1, first + 7, first + 64, first + 65, 5000] {
                let expected: Vec<_> = all.into_iter().filter(|n| (first..end).contains(n)).map(place).collect();
                assert_eq!(hidden.among((first, end)).collect::<Vec<_>>(), expected, "{first}..{end}");
            }
        }
    }
}
