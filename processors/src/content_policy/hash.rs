//! What content becomes where it is to be recognised but not read.

use sha2::{Digest, Sha256};
use weir_pipeline::batch::view::Value;
use weir_pipeline::hex::Hex;

/// Bytes that SHA-256 takes at a time.
const BLOCK: usize = 64;

/// SHA-256, or HMAC-SHA-256 with a key.
#[derive(Clone)]
pub(super) struct Hasher {
    key: Option<KeyedStates>,
}

/// The two hashes of an HMAC with the key already in them.
#[derive(Clone)]
struct KeyedStates {
    inner: Sha256,
    outer: Sha256,
}

impl Hasher {
    pub(super) fn new(key: Option<&[u8]>) -> Self {
        Self { key: key.map(KeyedStates::new) }
    }

    /// `sha256:` or, with a key, `hmac-sha256:`, and the hash of the value's text in 64 hexadecimal digits. The text is
    /// that of [`Value::to_text`]; of a text its UTF-8.
    pub(super) fn hash(&self, value: Value<'_>) -> String {
        match value {
            Value::Str(text) => self.hash_bytes(text.as_bytes()),
            other => self.hash_bytes(other.to_text().as_bytes()),
        }
    }

    fn hash_bytes(&self, bytes: &[u8]) -> String {
        let (name, digest) = match &self.key {
            None => ("sha256:", Sha256::digest(bytes)),
            Some(KeyedStates { inner, outer }) => {
                let inner = inner.clone().chain_update(bytes).finalize();
                ("hmac-sha256:", outer.clone().chain_update(inner).finalize())
            }
        };
        format!("{name}{}", Hex(&digest))
    }
}

impl KeyedStates {
    /// RFC 2104: a key longer than a block is hashed first, a shorter one is filled up with zeros.
    fn new(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        let hashed;
        let key = if key.len() > BLOCK {
            hashed = Sha256::digest(key);
            &hashed[..]
        } else {
            key
        };
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        let state = |pad: u8| Sha256::new_with_prefix(block.map(|byte| byte ^ pad));
        Self { inner: state(0x36), outer: state(0x5c) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyed_hashes_are_those_of_rfc_4231() {
        let long = [0xaa; 131];
        let counting: Vec<u8> = (1..=25).collect();
        for (key, data, expected) in [
            (&[0x0b; 20][..], &b"Hi There"[..], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&counting, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                &long,
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &long,
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to \
                  be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ] {
            assert_eq!(Hasher::new(Some(key)).hash_bytes(data), format!("hmac-sha256:{expected}"));
        }
    }

    #[test]
    fn values_are_hashed_as_their_texts() {
        let hasher = Hasher::new(None);
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hasher.hash(Value::Str("abc".into())), abc);
        assert_eq!(hasher.hash(Value::Int(7)), hasher.hash(Value::Str("7".into())));
        // A list of one text, "a".
        let list = [0x2a, 5, 0x0a, 3, 0x0a, 1, b'a'];
        assert_eq!(hasher.hash(Value::parse(&list)), hasher.hash(Value::Str("[\"a\"]".into())));
    }
}
