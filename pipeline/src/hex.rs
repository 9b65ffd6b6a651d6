//! Bytes as lower-case hexadecimal text: how ids and digests are written.

use std::fmt;

/// Bytes that are shown as digits.
#[derive(Debug, Clone, Copy)]
pub struct Hex<'b>(pub &'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blocks(self.0, |digits| f.write_str(std::str::from_utf8(digits).unwrap_or_default()))
    }
}

/// Appends the digits of these bytes.
#[inline]
pub fn append(out: &mut Vec<u8>, bytes: &[u8]) {
    let appended: Result<(), std::convert::Infallible> = blocks(bytes, |digits| {
        out.extend_from_slice(digits);
        Ok(())
    });
    let Ok(()) = appended;
}

/// Bytes whose digits are written at once: no id is longer.
const BLOCK: usize = 16;

#[inline]
fn blocks<E>(bytes: &[u8], mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for block in bytes.chunks(BLOCK) {
        let mut digits = [0; 2 * BLOCK];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(block) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        write(digits.get(..2 * block.len()).unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_standard_library() {
        let bytes: Vec<u8> = (0..=255).collect();
        for len in [0, 1, 8, 15, 16, 17, 32, 256] {
            let expected: String = bytes[..len].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(Hex(&bytes[..len]).to_string(), expected);
            let mut out = b"before".to_vec();
            append(&mut out, &bytes[..len]);
            assert_eq!(out, format!("before{expected}").into_bytes());
        }
    }
}
