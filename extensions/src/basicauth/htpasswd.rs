//! Users and their hashed passwords, as Apache's `htpasswd` writes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use weir_pipeline::config::Secret;
use weir_pipeline::metadata::Identity;

use super::md5_crypt;
use super::remembered::{Pair, Remembered};

/// The users of one file or text.
pub(crate) struct Users {
    users: HashMap<String, User>,
    /// Stands in for users that do not exist, so that they take as long.
    stand_in: Option<Hash>,
    /// Ends with the text: after a change each password is checked anew.
    remembered: Remembered,
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

impl Users {
    /// No users.
    pub(crate) fn none() -> Self {
        Self { users: HashMap::new(), stand_in: None, remembered: Remembered::default() }
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
        // The slowest there is.
        let stand_in = users.values().map(|user| &user.hash).max_by_key(|hash| hash.cost()).cloned();
        Ok(Self { users, stand_in, remembered: Remembered::default() })
    }

    /// Whether there is a user of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    /// What can be said at once of a name and a password.
    pub(super) fn look(self: &Arc<Self>, name: &str, password: &str) -> Look {
        let pair = Pair::of(name, password);
        let is_remembered = pair.is_some_and(|pair| self.remembered.has(&pair, Instant::now()));
        let user = self.users.get(name);
        if let (Some(user), true) = (user, is_remembered) {
            return Look::Right(Arc::clone(&user.identity));
        }
        // A name that does not exist takes the same way as one that does, only for the time it takes.
        let Some(hash) = user.map(|user| &user.hash).or(self.stand_in.as_ref()) else { return Look::Wrong };
        let identity = user.map(|user| Arc::clone(&user.identity));
        if hash.is_costly() {
            let (users, hash, password) = (Arc::clone(self), hash.clone(), Secret::new(password.to_owned()));
            return Look::Costly(Check { users, hash, password, identity, pair });
        }
        let is_right = std::hint::black_box(hash.verify(password));
        identity.filter(|_| is_right).map_or(Look::Wrong, Look::Right)
    }
}

/// What can be said at once of a name and a password.
pub(super) enum Look {
    Right(Arc<Identity>),
    Wrong,
    /// Nothing: it has to be checked, and that takes long.
    Costly(Check),
}

/// A password that is to be compared with a costly hash.
pub(super) struct Check {
    users: Arc<Users>,
    hash: Hash,
    password: Secret,
    /// `None`: the user does not exist, and whatever the password, it is wrong.
    identity: Option<Arc<Identity>>,
    pair: Option<Pair>,
}

impl Check {
    /// Who it is, if another check has found the same name and password to be right.
    pub(super) fn remembered(&self) -> Option<Arc<Identity>> {
        let pair = self.pair.as_ref()?;
        self.users.remembered.has(pair, Instant::now()).then(|| self.identity.clone())?
    }

    /// Who it is, if the password is right. Takes long.
    pub(super) fn run(self) -> Option<Arc<Identity>> {
        let is_right = std::hint::black_box(self.hash.verify(self.password.expose()));
        let identity = self.identity.filter(|_| is_right)?;
        if let Some(pair) = self.pair {
            self.users.remembered.add(pair, Instant::now());
        }
        Some(identity)
    }
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

    /// How long it takes, for comparison with others.
    fn cost(&self) -> u32 {
        match self {
            Self::Bcrypt(hash) => 2 + hash.get(4..6).and_then(|cost| cost.parse().ok()).unwrap_or(0),
            Self::Md5Crypt { .. } => 1,
            Self::Sha { .. } | Self::Plain(_) => 0,
        }
    }

    /// Whether it is slow on purpose, too slow for a lane: bcrypt takes milliseconds to seconds, the thousand rounds of
    /// MD5-crypt a fraction of a millisecond for a short password and several for a long one.
    fn is_costly(&self) -> bool {
        self.cost() > 0
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
