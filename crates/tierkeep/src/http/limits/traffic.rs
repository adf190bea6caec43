//! Traffic: owns how often a caller may ask, and which address a request counts for.
//!
//! Must never let one kind of caller use up the share of another: public requests, failed authentication and internal users
//! have buckets of their own.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::{Extensions, HeaderMap, HeaderName};
use governor::Quota;
use ipnet::IpNet;
use tierkeep_core::bson::DateTime;
use tierkeep_core::repeats::Repeats;
use tierkeep_core::user::{UserId, UserType};
use tracing::warn;

use super::address::{Peer, hop, network};
use super::bucket::{Allowance, Bucket, BucketKey, MOST_KEYS, Steady};
use super::budget::Holder;
use super::concurrency::{ConcurrencyLimit, Permit};
use super::questions::GithubLimit;
use crate::http::response::problem::causes::NoPermit;

/// Far above what one person's client sends, and far below what keeps the databases busy.
const INTERNAL_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
const HOUR: Duration = Duration::from_hours(1);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How much public callers may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrafficSettings {
    /// Requests of an address in a second.
    pub rate: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
    /// New users per address and hour.
    pub new_users: NonZeroU32,
    /// Requests at work in the databases at once, of all addresses together.
    pub concurrency: NonZeroU32,
    /// Whether external users may write.
    pub writes: bool,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
}

struct Buckets {
    settings: TrafficSettings,
    by_address: Bucket,
    failed: Bucket,
    github: Bucket,
    internal: Bucket,
    new_users: Bucket,
    /// Addresses whose bucket of new users is empty, and until when.
    full: Mutex<HashMap<BucketKey, Duration>>,
    concurrency: ConcurrencyLimit,
    /// Lines about refusals, by policy.
    told: Repeats<&'static str>,
    clock: Steady,
}

/// Counts requests and refuses those that are too many. Clones share it.
#[derive(Clone)]
pub struct Traffic(Arc<Buckets>);

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traffic").field(&self.0.settings).finish()
    }
}

impl Traffic {
    /// Empty buckets of these sizes.
    pub fn new(settings: TrafficSettings, clock: &Steady) -> Self {
        let public = Quota::per_second(settings.rate).allow_burst(settings.burst);
        let bucket = |policy, quota| Bucket::new(policy, quota, clock);
        Self(Arc::new(Buckets {
            by_address: bucket("public", public),
            failed: bucket("failed-authentication", public),
            github: bucket("github", public),
            internal: bucket("internal", Quota::per_second(INTERNAL_RATE)),
            new_users: bucket("new-users", Quota::per_hour(settings.new_users)),
            full: Mutex::default(),
            concurrency: ConcurrencyLimit::new(settings.concurrency.get() as usize),
            told: Repeats::default(),
            clock: Arc::clone(clock),
            settings,
        }))
    }

    /// Whether external users may write.
    pub(in crate::http) fn public_writes(&self) -> bool {
        self.0.settings.writes
    }

    /// The address that a request counts for: the peer's, or, where that is a trusted proxy, the last one in
    /// `X-Forwarded-For` that is none. IPv6 counts by /64.
    pub(in crate::http) fn address(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        let peer = extensions.get::<Peer>();
        let peer = peer.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |peer| peer.0.ip());
        let lines = headers.get_all(FORWARDED_FOR).into_iter();
        let mut hops: Vec<&str> = lines
            .flat_map(|line| line.to_str().unwrap_or("?").split(','))
            .collect();
        let mut address = peer.to_canonical();
        while self.is_trusted(address) {
            match hops.pop().and_then(hop) {
                Some(before) => address = before,
                None => break,
            }
        }
        network(address)
    }

    /// On whose behalf a request of this type of user, that counts for `address`, holds memory.
    pub(in crate::http) fn holder(&self, user_type: UserType, address: IpAddr) -> Holder {
        Holder {
            user_type,
            address: Some(address).filter(|address| !self.is_trusted(*address)),
        }
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        let proxies = &self.0.settings.trusted_proxies;
        proxies.iter().any(|network| network.contains(&address))
    }

    /// Counts a request that names a public user, by address. The name has no bucket: any caller can name any
    /// user, and could use up that bucket.
    pub(in crate::http) fn public(&self, from: IpAddr) -> Result<Allowance, Allowance> {
        self.0.by_address.count(BucketKey::Address(from))
    }

    /// Acquires a permit for a public request to use the databases.
    ///
    /// # Errors
    /// [`NoPermit`].
    pub(in crate::http) async fn permit(&self) -> Result<Permit, NoPermit> {
        self.0.concurrency.acquire().await
    }

    /// Counts a request whose credentials did not suffice.
    pub(in crate::http) fn failed(&self, from: IpAddr) -> Result<Allowance, Allowance> {
        self.0.failed.count(BucketKey::Address(from))
    }

    /// The limit on asking GitHub for the sake of a caller at this address.
    pub(in crate::http) fn github(&self, from: IpAddr) -> GithubLimit<'_> {
        GithubLimit::new(self, from)
    }

    /// Counts a question to GitHub for a caller with the JWT of this user.
    pub(super) fn asks_github(&self, from: IpAddr, user: &UserId) -> Result<Allowance, Allowance> {
        let key = BucketKey::AddressAndUser(from, user.clone());
        self.0.github.count(key)
    }

    /// Tells of a refusal, once a minute for each policy; whether it did.
    pub(in crate::http) fn tells(&self, refused: &Allowance) -> bool {
        let millis = i64::try_from((self.0.clock)().as_millis()).unwrap_or(i64::MAX);
        let policy = refused.policy();
        let Some(more) = self.0.told.due(policy, DateTime::from_millis(millis)) else {
            return false;
        };
        warn!(
            policy,
            more, "callers exceed a rate limit, and their requests are refused"
        );
        true
    }

    /// Counts a request of a user who is known by credentials.
    pub(in crate::http) fn internal(&self, user: &UserId) -> Result<Allowance, Allowance> {
        self.0.internal.count(BucketKey::User(user.clone()))
    }

    /// Counts a new public user.
    pub(in crate::http) fn made(&self, from: IpAddr) {
        let key = BucketKey::Address(from);
        let left = self.0.new_users.count(key.clone());
        if left.is_ok_and(|left| left.remaining > 0) {
            return;
        }
        let now = (self.0.clock)();
        let until = now + HOUR / u32::from(self.0.settings.new_users);
        let mut full = self.0.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.len() >= MOST_KEYS {
            full.retain(|_, until| *until > now);
        }
        full.insert(key, until);
    }

    /// What is left of the bucket of new users of this address, where that is nothing.
    pub(in crate::http) fn is_full(&self, from: IpAddr) -> Option<Allowance> {
        let now = (self.0.clock)();
        let full = self.0.full.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *full.get(&BucketKey::Address(from))?;
        let wait = until.checked_sub(now).filter(|wait| !wait.is_zero())?;
        let quota = Quota::per_hour(self.0.settings.new_users);
        Some(self.0.new_users.allowance(quota, 0, Some(wait)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::HeaderValue;
    use rstest::rstest;

    use super::*;

    fn traffic(clock: &Steady) -> Traffic {
        let of = |n| NonZeroU32::new(n).unwrap();
        let settings = TrafficSettings {
            rate: of(2),
            burst: of(4),
            new_users: of(2),
            concurrency: of(2),
            writes: true,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        };
        Traffic::new(settings, clock)
    }

    fn stopped() -> Steady {
        Arc::new(|| Duration::from_secs(5))
    }

    #[rstest]
    #[case("192.0.2.1", &[], "192.0.2.1")]
    #[case("192.0.2.1", &["198.51.100.7"], "192.0.2.1")]
    #[case("10.1.2.3", &["198.51.100.7"], "198.51.100.7")]
    #[case("::ffff:10.1.2.3", &["198.51.100.7:1234"], "198.51.100.7")]
    #[case("10.1.2.3", &["203.0.113.9, 198.51.100.7"], "198.51.100.7")]
    #[case("10.1.2.3", &["203.0.113.9, 198.51.100.7, 10.9.9.9"], "198.51.100.7")]
    #[case("10.1.2.3", &["203.0.113.9", "198.51.100.7"], "198.51.100.7")]
    #[case("10.1.2.3", &["198.51.100.7, unknown"], "10.1.2.3")]
    #[case("10.1.2.3", &[""], "10.1.2.3")]
    #[case("fd00::1", &["[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::")]
    #[case("2001:db8:1:2:ffff::1", &[], "2001:db8:1:2::")]
    fn a_request_counts_for_the_caller_and_not_for_what_the_caller_says(
        #[case] peer: &str,
        #[case] forwarded: &[&str],
        #[case] expected: &str,
    ) {
        let mut extensions = Extensions::new();
        extensions.insert(Peer(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        let address = traffic(&stopped()).address(&extensions, &headers);
        assert_eq!(address, expected.parse::<IpAddr>().unwrap());
    }

    #[test]
    fn beyond_the_most_callers_those_who_come_new_share_a_bucket() {
        let traffic = traffic(&stopped());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..u32::try_from(MOST_KEYS).unwrap() + 4 {
            traffic.failed(address(n)).unwrap();
        }
        assert!(traffic.failed(address(u32::MAX)).is_err());
        assert!(traffic.0.failed.len() <= MOST_KEYS + 1);
    }
}
