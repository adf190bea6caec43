//! Sessions of the dashboard: owns which administrators are signed in, and until when.
//!
//! Must never keep a token that would open a session, in whatever form it was given: the table holds hashes. The
//! table is bounded and this process's own (ADR 14).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use tierkeep_core::bson::DateTime;
use tierkeep_core::clock::{self, Clock};
use tierkeep_core::user::UserId;

/// The name of the cookie that holds a session.
pub(in crate::http) const SESSION: &str = "tierkeep_session";
/// How long a session lasts at most.
const LONGEST: Duration = Duration::from_hours(1);
/// The most sessions at once; beyond them the one that would end first gives way.
const MOST: usize = 1_000;

/// Who is signed in. Clones share it.
#[derive(Clone)]
pub struct Sessions(Arc<Table>);

struct Table {
    clock: Arc<dyn Clock>,
    open: Mutex<HashMap<blake3::Hash, Session>>,
}

/// One session.
#[derive(Clone)]
pub(in crate::http) struct Session {
    /// The hash of what its cookie holds.
    pub(in crate::http) key: blake3::Hash,
    /// The administrator.
    pub(in crate::http) user: UserId,
    /// What its forms carry.
    pub(in crate::http) csrf: String,
    /// When it ends without a sign-out.
    pub(in crate::http) expires_at: DateTime,
    /// What the next page tells.
    notice: Option<String>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// An empty table; sessions expire by this clock.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let open = Mutex::default();
        Self(Arc::new(Table { clock, open }))
    }

    fn table(&self) -> MutexGuard<'_, HashMap<blake3::Hash, Session>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session that ends with the JWT that opened it, within an hour at most. Answers what the cookie
    /// holds, and for how many seconds.
    pub(in crate::http) fn begin(&self, user: UserId, believed_until: DateTime) -> (String, u64) {
        let now = self.0.clock.now();
        let expires_at = clock::after(now, LONGEST).min(believed_until);
        let secret = fresh();
        let session = Session {
            key: key(&secret),
            user,
            csrf: fresh(),
            expires_at,
            notice: None,
        };
        let mut open = self.table();
        if open.len() >= MOST {
            open.retain(|_, session| session.expires_at > now);
        }
        if open.len() >= MOST {
            let first = open.iter().min_by_key(|(_, session)| session.expires_at);
            if let Some(first) = first.map(|(key, _)| *key) {
                open.remove(&first);
            }
        }
        open.insert(session.key, session);
        let lasts = expires_at.saturating_duration_since(now);
        (secret, lasts.as_secs())
    }

    /// The session of a request with these headers.
    pub(in crate::http) fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let now = self.0.clock.now();
        let open = self.table();
        let mut found = cookies(headers, SESSION).filter_map(|secret| open.get(&key(secret)));
        found.find(|session| session.expires_at > now).cloned()
    }

    /// Ends the session of a request with these headers.
    pub(in crate::http) fn end(&self, headers: &HeaderMap) {
        let mut open = self.table();
        for secret in cookies(headers, SESSION) {
            open.remove(&key(secret));
        }
    }

    /// Keeps something for the next page of this session.
    pub(in crate::http) fn tell(&self, session: &blake3::Hash, notice: String) {
        if let Some(session) = self.table().get_mut(session) {
            session.notice = Some(notice);
        }
    }

    /// What was kept for this page of the session, once.
    pub(in crate::http) fn told(&self, session: &blake3::Hash) -> Option<String> {
        self.table().get_mut(session)?.notice.take()
    }
}

/// A random text of 256 bits.
pub(in crate::http) fn fresh() -> String {
    let random: [u8; 32] = rand::random();
    blake3::Hash::from_bytes(random).to_hex().to_string()
}

fn key(secret: &str) -> blake3::Hash {
    blake3::hash(secret.as_bytes())
}

/// The values of every cookie of this name (RFC 6265, section 4.2.1).
pub(in crate::http) fn cookies<'a>(
    headers: &'a HeaderMap,
    name: &str,
) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(COOKIE).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(move |pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tierkeep_testkit::ManualClock;

    use super::*;

    fn user() -> UserId {
        UserId::internal("507f1f77bcf86cd799439011").unwrap()
    }

    fn with(secret: &str) -> HeaderMap {
        let cookie = format!("other=1; {SESSION}={secret}");
        let mut headers = HeaderMap::new();
        headers.insert(COOKIE, HeaderValue::try_from(cookie).unwrap());
        headers
    }

    #[test]
    fn a_session_ends_with_its_hour_or_with_the_jwt_that_opened_it() {
        let clock = Arc::new(ManualClock::new(DateTime::from_millis(0)));
        let sessions = Sessions::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let hours = |n: i64| DateTime::from_millis(n * 3_600_000);
        let (long, seconds) = sessions.begin(user(), hours(24));
        assert_eq!(seconds, 3_600);
        let (short, seconds) = sessions.begin(user(), DateTime::from_millis(60_000));
        assert_eq!(seconds, 60);
        assert!(sessions.of(&with(&long)).is_some());
        assert!(sessions.of(&with(&short)).is_some());
        clock.advance(Duration::from_mins(1));
        assert!(sessions.of(&with(&long)).is_some());
        assert!(sessions.of(&with(&short)).is_none());
        clock.advance(Duration::from_mins(59));
        assert!(sessions.of(&with(&long)).is_none());
    }

    #[test]
    fn a_session_ends_when_its_user_signs_out() {
        let sessions = Sessions::new(Arc::new(ManualClock::new(DateTime::from_millis(0))));
        let (secret, _) = sessions.begin(user(), DateTime::MAX);
        let headers = with(&secret);
        assert_eq!(sessions.of(&headers).unwrap().user, user());
        sessions.end(&headers);
        assert!(sessions.of(&headers).is_none());
        assert!(sessions.of(&with("guessed")).is_none());
    }

    #[test]
    fn there_are_never_more_sessions_than_the_bound() {
        let clock = Arc::new(ManualClock::new(DateTime::from_millis(0)));
        let sessions = Sessions::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let (first, _) = sessions.begin(user(), DateTime::MAX);
        clock.advance(Duration::from_secs(1));
        for _ in 0..MOST {
            sessions.begin(user(), DateTime::MAX);
        }
        assert_eq!(sessions.table().len(), MOST);
        assert!(sessions.of(&with(&first)).is_none());
    }
}
