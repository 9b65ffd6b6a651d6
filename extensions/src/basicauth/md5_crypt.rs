//! MD5-crypt, as Apache's `htpasswd -m` and old Unix systems hash passwords. Weak by today's measure, and still found.

use md5::{Digest, Md5};

/// How Apache's hashes start.
pub(super) const APACHE: &str = "$apr1$";
/// How those of Unix systems start.
pub(super) const UNIX: &str = "$1$";

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The hash of a password: magic, salt, `$` and 22 characters.
pub(super) fn hash(magic: &str, salt: &str, password: &str) -> String {
    let (salt_bytes, password) = (salt.as_bytes(), password.as_bytes());
    let mut digest: [u8; 16] =
        Md5::new().chain_update(password).chain_update(salt_bytes).chain_update(password).finalize().into();
    let mut first = Md5::new().chain_update(password).chain_update(magic).chain_update(salt_bytes);
    let mut left = password.len();
    while left > 0 {
        first.update(&digest[..left.min(16)]);
        left = left.saturating_sub(16);
    }
    let mut bits = password.len();
    while bits > 0 {
        // The original adds a zero byte for each 1 bit and the first byte of the password for each 0 bit.
        if bits & 1 == 1 {
            first.update([0]);
        } else {
            first.update(&password[..1]);
        }
        bits >>= 1;
    }
    digest = first.finalize().into();
    for round in 0..1000 {
        let mut next = Md5::new();
        if round & 1 == 1 {
            next.update(password);
        } else {
            next.update(digest);
        }
        if round % 3 != 0 {
            next.update(salt_bytes);
        }
        if round % 7 != 0 {
            next.update(password);
        }
        if round & 1 == 1 {
            next.update(digest);
        } else {
            next.update(password);
        }
        digest = next.finalize().into();
    }
    let mut text = format!("{magic}{salt}$");
    let order = [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]];
    for group in order {
        let [a, b, c] = group.map(|i| u32::from(digest[i]));
        encode(&mut text, a << 16 | b << 8 | c, 4);
    }
    encode(&mut text, u32::from(digest[11]), 2);
    text
}

/// Six bits a character, the lowest first.
fn encode(text: &mut String, mut bits: u32, characters: usize) {
    for _ in 0..characters {
        text.push(char::from(ALPHABET[(bits & 63) as usize]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_others() {
        // The example of Apache's documentation, and `openssl passwd -apr1|-1 -salt …`.
        assert_eq!(hash(APACHE, "r31.....", "myPassword"), "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/");
        assert_eq!(hash(UNIX, "saltsalt", "myPassword"), "$1$saltsalt$2vnaRpHa6Jxjz5n83ok8Z0");
        assert_eq!(hash(APACHE, "abc", ""), "$apr1$abc$BfqKdn9xFDWJPa3kcp/PH0");
        assert_eq!(
            hash(APACHE, "12345678", "a password that is longer than sixteen bytes"),
            "$apr1$12345678$uRmxmCy2Q6t9B9VQlZQWd."
        );
    }
}
