//! Who may ask: users and their passwords' bcrypt hashes.
//!
//! A comparison takes a processor for tens of milliseconds, so they are made one at a time and off the runtime, and what was
//! found right is remembered: per user the last password, as an HMAC under a key that is made at start. A wrong password, or a
//! user there is not, always costs one comparison, so that neither tells anything by the time it takes.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bcrypt::HashParts;
use ring::{hmac, rand};
use tokio::sync::Semaphore;

use super::web_config::Fault;

/// The largest cost of a hash; a comparison takes seconds then, and twice as long with each step above.
const COST_LIMIT: u32 = 16;

/// Users and the hashes of their passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Users(BTreeMap<String, String>);

impl Users {
    /// The users of the web config file, whose hashes are checked.
    pub(super) fn new(users: BTreeMap<String, String>) -> Result<Self, Fault> {
        const SETTING: &str = "basic_auth_users";
        for (place, hash) in users.values().enumerate() {
            let place = place + 1;
            let cost = HashParts::from_str(hash)
                .map_err(|_| (SETTING, format!("user {place} has no bcrypt hash")))?
                .get_cost();
            if !(4..=COST_LIMIT).contains(&cost) {
                let what = format!(
                    "the hash of user {place} has the cost {cost}, which is not between 4 and {COST_LIMIT}"
                );
                return Err((SETTING, what));
            }
        }
        Ok(Self(users))
    }

    /// Whether there are none, and everybody may ask.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What has been found out about passwords.
#[derive(Debug)]
pub(super) struct Gate {
    key: hmac::Key,
    /// By user: the tag of the hash and the password that were found to belong together last. At most one per user there is.
    right: Mutex<BTreeMap<String, hmac::Tag>>,
    /// Held by the one comparison that is under way.
    turn: Arc<Semaphore>,
}

impl Gate {
    /// A gate that knows nothing yet; none where the kernel has no random numbers.
    pub(super) fn new() -> Option<Self> {
        let random = rand::SystemRandom::new();
        Some(Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &random).ok()?,
            right: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether a request with these headers may be answered.
    pub(super) async fn admits(&self, users: &Users, headers: &HeaderMap) -> bool {
        if users.is_empty() {
            return true;
        }
        let Some((user, password)) = credentials(headers) else {
            return false;
        };
        // A user there is not is compared with another's hash, and refused whatever comes of it.
        let known = users.0.get(&user);
        let Some(hash) = known.or_else(|| users.0.values().next()) else {
            return false;
        };
        let known = known.is_some();
        // Every hash is 60 bytes long, so that no two of these pairs are the same bytes.
        let proof = [hash.as_bytes(), &password].concat();
        if known && self.is_right(&user, &proof) {
            return true;
        }
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else {
            return false;
        };
        // While this one waited, another request may have found the same.
        if known && self.is_right(&user, &proof) {
            return true;
        }
        let hash = hash.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let right = bcrypt::verify(&password, &hash).unwrap_or(false);
            // Also where nobody waits for the answer any more, the next comparison begins after this one.
            drop(turn);
            right
        });
        let right = matches!(compared.await, Ok(true)) && known;
        if right {
            let mut remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.retain(|user, _| users.0.contains_key(user));
            remembered.insert(user, hmac::sign(&self.key, &proof));
        }
        right
    }

    /// Whether the password in `proof` is known to be the one of the hash in it.
    fn is_right(&self, user: &str, proof: &[u8]) -> bool {
        let remembered = self.right.lock().unwrap_or_else(PoisonError::into_inner);
        let tag = remembered.get(user);
        tag.is_some_and(|tag| hmac::verify(&self.key, proof, tag.as_ref()).is_ok())
    }
}

/// User and password of an `Authorization: Basic` header (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut both = BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?;
    let colon = both.iter().position(|byte| *byte == b':')?;
    let password = both.split_off(colon + 1);
    both.pop();
    Some((String::from_utf8(both).ok()?, password))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(user: &str, password: &str) -> HeaderMap {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        [(AUTHORIZATION, format!("Basic {encoded}").parse().unwrap())]
            .into_iter()
            .collect()
    }

    fn users(all: &[(&str, &str)]) -> Users {
        let hashed = all
            .iter()
            .map(|(user, password)| ((*user).to_owned(), bcrypt::hash(password, 4).unwrap()));
        Users::new(hashed.collect()).unwrap()
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_user_is_taken() {
        let gate = Gate::new().unwrap();
        let users = users(&[("alice", "a:b"), ("bob", "")]);
        for _ in 0..2 {
            assert!(gate.admits(&users, &headers("alice", "a:b")).await);
            assert!(gate.admits(&users, &headers("bob", "")).await);
            for (user, password) in [
                ("alice", "a"),
                ("alice", ""),
                ("bob", "a:b"),
                ("carol", "a:b"),
                ("carol", ""),
                ("", ""),
            ] {
                assert!(!gate.admits(&users, &headers(user, password)).await);
            }
        }
        assert!(!gate.admits(&users, &HeaderMap::new()).await);
        assert!(gate.admits(&Users::default(), &HeaderMap::new()).await);
        assert_eq!(gate.right.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_is_remembered_ends_with_the_hash_it_was_right_for() {
        let gate = Gate::new().unwrap();
        let asks = headers("alice", "old");
        assert!(gate.admits(&users(&[("alice", "old")]), &asks).await);
        assert!(!gate.admits(&users(&[("alice", "new")]), &asks).await);
        assert!(!gate.admits(&users(&[("bob", "old")]), &asks).await);
        assert!(
            gate.admits(&users(&[("bob", "x")]), &headers("bob", "x"))
                .await
        );
        assert_eq!(gate.right.lock().unwrap().len(), 1);
    }

    #[test]
    fn headers_that_are_no_credentials_are_none() {
        for value in [
            "",
            "Basic",
            "Basic !",
            "Bearer YTpi",
            "Basic YQ==",
            "Basic /zph",
        ] {
            let headers = [(AUTHORIZATION, value.parse().unwrap())]
                .into_iter()
                .collect();
            assert_eq!(credentials(&headers), None, "{value}");
        }
    }

    #[test]
    fn a_hash_that_would_take_minutes_is_refused() {
        let slow = bcrypt::hash("a", 4).unwrap().replacen("$04$", "$31$", 1);
        let (_, what) = Users::new([("a".to_owned(), slow)].into()).unwrap_err();
        assert!(what.contains("cost 31"), "{what}");
    }
}
