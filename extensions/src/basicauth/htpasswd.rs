//! Users and their hashed passwords, as Apache's `htpasswd` writes them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_pipeline::metadata::Identity;

use super::md5_crypt;

/// Pairs that are remembered as right. A user has one, but bcrypt reads 72 bytes of a password and forgives the rest.
const MAX_REMEMBERED: usize = 10_000;

/// The users of one file or text.
pub(crate) struct Users {
    users: HashMap<String, User>,
    /// Stands in for users that do not exist, so that they take as long.
    stand_in: Option<Hash>,
    /// Keyed hashes of the pairs that were right.
    remembered: Mutex<HashSet<[u8; 32]>>,
}

struct User {
    hash: Hash,
    identity: Arc<Identity>,
}

#[derive(Clone)]
enum Hash {
    Bcrypt(String),
    /// SHA-1 of password and salt, which is empty for `{SHA}`.
    Sha {
        digest: [u8; 20],
        salt: Vec<u8>,
    },
    /// `$apr1$` or `$1$`, the salt, and the whole line to compare with.
    Md5Crypt {
        magic: &'static str,
        salt: String,
        encoded: String,
    },
    /// SHA-256 of the password, so that comparing takes the same time whatever its length.
    Plain([u8; 32]),
}

/// A key for remembering, which nobody else has. `None`: the system has no random numbers, and nothing is remembered.
static KEY: LazyLock<Option<[u8; 32]>> = LazyLock::new(|| {
    let mut key = [0; 32];
    getrandom::fill(&mut key).ok()?;
    Some(key)
});

impl Users {
    /// No users.
    pub(crate) fn none() -> Self {
        Self { users: HashMap::new(), stand_in: None, remembered: Mutex::default() }
    }

    /// Reads lines of `user:hash`; empty ones and those that start with `#` are skipped.
    ///
    /// # Errors
    /// The number of the line and what is wrong with it, without what it says.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |what: &str| format!("{number}: {what}");
            let (name, hash) = line.split_once(':').ok_or_else(|| wrong("expected `user:hash`"))?;
            if name.is_empty() {
                return Err(wrong("the user has no name"));
            }
            let hash = Hash::parse(hash).map_err(wrong)?;
            let identity = Arc::new(Identity::new(vec![("username", name.into())]));
            if users.insert(name.to_owned(), User { hash, identity }).is_some() {
                return Err(wrong("this user is already in a line before"));
            }
        }
        if users.is_empty() {
            return Err("1: there are no users".to_owned());
        }
        // The slowest kind there is.
        let slow = |user: &&User| matches!(user.hash, Hash::Bcrypt(_));
        let stand_in = users.values().find(slow).or_else(|| users.values().next()).map(|user| user.hash.clone());
        Ok(Self { users, stand_in, remembered: Mutex::default() })
    }

    /// Whether there is a user of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// Who this is, if the password is right.
    pub(crate) fn check(&self, name: &str, password: &str) -> Option<Arc<Identity>> {
        let Some(user) = self.users.get(name) else {
            if let Some(hash) = &self.stand_in {
                // Only for the time it takes.
                std::hint::black_box(hash.verify(password));
            }
            return None;
        };
        let pair = KEY.as_ref().map(|key| keyed(key, name, password));
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if pair.is_some_and(|pair| remembered.contains(&pair)) {
            return Some(Arc::clone(&user.identity));
        }
        drop(remembered);
        if !user.hash.verify(password) {
            return None;
        }
        remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.extend(pair);
        Some(Arc::clone(&user.identity))
    }
}

fn keyed(key: &[u8; 32], name: &str, password: &str) -> [u8; 32] {
    let length = (name.len() as u64).to_le_bytes();
    let parts: [&[u8]; 4] = [key, &length, name.as_bytes(), password.as_bytes()];
    // The lengths are part of what is hashed, and the result never leaves the process: no HMAC is needed.
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

impl Hash {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim_end();
        if ["$2y$", "$2a$", "$2b$"].iter().any(|prefix| text.starts_with(prefix)) {
            // Checks the form; the password is of no interest.
            return match bcrypt_parts(text) {
                true => Ok(Self::Bcrypt(text.to_owned())),
                false => Err("the bcrypt hash is not well-formed"),
            };
        }
        if let Some(digest) = text.strip_prefix("{SHA}") {
            let digest = STANDARD.decode(digest).ok().and_then(|d| d.try_into().ok());
            return Ok(Self::Sha {
                digest: digest.ok_or("the {SHA} hash is not base64 of 20 bytes")?,
                salt: Vec::new(),
            });
        }
        if let Some(salted) = text.strip_prefix("{SSHA}") {
            let salted = STANDARD.decode(salted).unwrap_or_default();
            let (digest, salt) =
                salted.split_first_chunk().ok_or("the {SSHA} hash is not base64 of 20 bytes and salt")?;
            return Ok(Self::Sha { digest: *digest, salt: salt.to_vec() });
        }
        for magic in [md5_crypt::APACHE, md5_crypt::UNIX] {
            if let Some(rest) = text.strip_prefix(magic) {
                let well_formed = rest.split_once('$').filter(|(salt, digest)| salt.len() <= 8 && digest.len() == 22);
                let (salt, _) = well_formed.ok_or("the MD5 hash is not salt, `$` and 22 characters")?;
                return Ok(Self::Md5Crypt { magic, salt: salt.to_owned(), encoded: text.to_owned() });
            }
        }
        if text.starts_with('$') || text.starts_with('{') {
            return Err("this kind of hash is not supported: use bcrypt (`htpasswd -B`)");
        }
        if text.is_empty() {
            return Err("the password is empty");
        }
        Ok(Self::Plain(Sha256::digest(text).into()))
    }

    fn verify(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha { digest, salt } => {
                let actual: [u8; 20] = Sha1::new().chain_update(password).chain_update(salt).finalize().into();
                actual.ct_eq(digest).into()
            }
            Self::Md5Crypt { magic, salt, encoded } => {
                md5_crypt::hash(magic, salt, password).as_bytes().ct_eq(encoded.as_bytes()).into()
            }
            Self::Plain(hash) => <[u8; 32]>::from(Sha256::digest(password)).ct_eq(hash).into(),
        }
    }
}

/// Whether it is `$2y$`, a cost of 4 to 31, `$` and 53 characters.
fn bcrypt_parts(text: &str) -> bool {
    let Some((cost, rest)) = text.get(4..).and_then(|rest| rest.split_once('$')) else { return false };
    let is_known = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '/';
    cost.len() == 2
        && cost.parse().is_ok_and(|cost: u8| (4..=31).contains(&cost))
        && rest.len() == 53
        && rest.chars().all(is_known)
}
