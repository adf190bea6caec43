//! Traffic: owns how much a caller may ask in a while, and for whose address a request counts.
//!
//! Must never let one kind of caller use up what is another's: public requests, failed authentication and
//! internal users have buckets of their own. Memory is bounded: beyond [`MOST_KEYS`] busy callers, those who
//! come new share one bucket.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{Extensions, HeaderMap, HeaderName};
use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use ipnet::IpNet;
use tierkeep_core::user::UserId;

use crate::http::limits::concurrency::{ConcurrencyLimit, Permit};
use crate::http::response::problem::Problem;

/// The most callers that a bucket is kept for at once.
const MOST_KEYS: usize = 100_000;
/// Far above what a client of a person's does, and far below what keeps the databases busy.
const INTERNAL_RATE: NonZeroU32 = NonZeroU32::MIN.saturating_add(9_999);
const HOUR: Duration = Duration::from_hours(1);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// How much public callers may ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrafficSettings {
    /// Requests in a second, of an address and for a user name.
    pub rate: NonZeroU32,
    /// Requests at once.
    pub burst: NonZeroU32,
    /// New users of an address in an hour.
    pub new_users: NonZeroU32,
    /// Requests at work in the databases at once, of all addresses together.
    pub concurrency: NonZeroU32,
    /// Whether external users may write.
    pub writes: bool,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
}

/// A clock that never goes back: the time since some moment.
pub type Steady = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The process's own.
pub fn steady() -> Steady {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

/// The address at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Peer(pub(in crate::http) SocketAddr);

/// What is left of a bucket after a request was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Allowance {
    policy: &'static str,
    burst: u32,
    window_seconds: u64,
    remaining: u32,
    reset_seconds: u64,
}

impl Allowance {
    /// `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers.
    pub(in crate::http) fn policy_header(&self) -> String {
        let Self {
            policy,
            burst,
            window_seconds,
            ..
        } = self;
        format!("\"{policy}\";q={burst};w={window_seconds}")
    }

    /// `RateLimit` of the same draft.
    pub(in crate::http) fn header(&self) -> String {
        let Self {
            policy,
            remaining,
            reset_seconds,
            ..
        } = self;
        format!("\"{policy}\";r={remaining};t={reset_seconds}")
    }

    /// After how many seconds one more request is let through; 0 while some are.
    pub(in crate::http) fn retry_after_seconds(&self) -> u64 {
        if self.remaining == 0 {
            self.reset_seconds
        } else {
            0
        }
    }
}

/// Whose requests are counted together.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Who {
    Address(IpAddr),
    User(UserId),
    /// Everybody for whom there is no room.
    Others,
}

#[derive(Clone)]
struct Beat(Steady);

impl GovernorClock for Beat {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

struct Bucket {
    policy: &'static str,
    clock: Beat,
    limiter: RateLimiter<Who, DashMapStateStore<Who>, Beat, StateInformationMiddleware>,
}

impl Bucket {
    fn new(policy: &'static str, quota: Quota, clock: &Steady) -> Self {
        let clock = Beat(Arc::clone(clock));
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone()).with_middleware();
        Self {
            policy,
            clock,
            limiter,
        }
    }

    /// Counts one; an error where it is one too many.
    fn count(&self, who: Who) -> Result<Allowance, Allowance> {
        let who = if self.limiter.len() < MOST_KEYS {
            who
        } else {
            self.limiter.retain_recent();
            if self.limiter.len() < MOST_KEYS {
                who
            } else {
                Who::Others
            }
        };
        match self.limiter.check_key(&who) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                Ok(self.allowance(state.quota(), remaining, None))
            }
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                Err(self.allowance(until.quota(), 0, Some(wait)))
            }
        }
    }

    fn allowance(&self, quota: Quota, remaining: u32, wait: Option<Duration>) -> Allowance {
        let burst = quota.burst_size().get();
        let one = quota.replenish_interval();
        // Until the bucket is full again, or until it holds one.
        let reset = wait.unwrap_or_else(|| one.saturating_mul(burst.saturating_sub(remaining)));
        Allowance {
            policy: self.policy,
            burst,
            window_seconds: seconds(one.saturating_mul(burst)),
            remaining,
            reset_seconds: seconds(reset),
        }
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(duration: Duration) -> u64 {
    let whole = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    whole.max(1)
}

struct Buckets {
    settings: TrafficSettings,
    by_address: Bucket,
    by_name: Bucket,
    failed: Bucket,
    internal: Bucket,
    new_users: Bucket,
    /// Addresses that have made all the users they may, and until when.
    full: Mutex<HashMap<Who, Duration>>,
    concurrency: ConcurrencyLimit,
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
            by_name: bucket("user-name", public),
            failed: bucket("failed-authentication", public),
            internal: bucket("internal", Quota::per_second(INTERNAL_RATE)),
            new_users: bucket("new-users", Quota::per_hour(settings.new_users)),
            full: Mutex::default(),
            concurrency: ConcurrencyLimit::new(settings.concurrency.get() as usize),
            clock: Arc::clone(clock),
            settings,
        }))
    }

    /// Whether external users may write.
    pub(in crate::http) fn public_writes(&self) -> bool {
        self.0.settings.writes
    }

    /// For whose address a request counts: the peer's, or, where that is a trusted proxy, the last one in
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

    fn is_trusted(&self, address: IpAddr) -> bool {
        let proxies = &self.0.settings.trusted_proxies;
        proxies.iter().any(|network| network.contains(&address))
    }

    /// Counts a request that names a public user, by address and by name.
    pub(in crate::http) fn public(
        &self,
        from: IpAddr,
        name: Option<&UserId>,
    ) -> Result<Allowance, Allowance> {
        let by_address = self.0.by_address.count(Who::Address(from))?;
        let Some(name) = name else {
            return Ok(by_address);
        };
        let by_name = self.0.by_name.count(Who::User(name.clone()))?;
        Ok(if by_name.remaining < by_address.remaining {
            by_name
        } else {
            by_address
        })
    }

    /// Waits until one more request of somebody without credentials may work in the databases.
    ///
    /// # Errors
    /// [`Problem::Busy`] or [`Problem::Stalled`].
    pub(in crate::http) async fn permit(&self) -> Result<Permit, Problem> {
        self.0.concurrency.acquire().await
    }

    /// Counts a request whose credentials did not suffice.
    pub(in crate::http) fn failed(&self, from: IpAddr) -> Result<Allowance, Allowance> {
        self.0.failed.count(Who::Address(from))
    }

    /// Counts a request of a user who is known by credentials.
    pub(in crate::http) fn internal(&self, user: &UserId) -> Result<Allowance, Allowance> {
        self.0.internal.count(Who::User(user.clone()))
    }

    /// Counts a public user who was made.
    pub(in crate::http) fn made(&self, from: IpAddr) {
        let who = Who::Address(from);
        let left = self.0.new_users.count(who.clone());
        if left.is_ok_and(|left| left.remaining > 0) {
            return;
        }
        let now = (self.0.clock)();
        let until = now + HOUR / u32::from(self.0.settings.new_users);
        let mut full = self.0.full.lock().unwrap_or_else(PoisonError::into_inner);
        if full.len() >= MOST_KEYS {
            full.retain(|_, until| *until > now);
        }
        full.insert(who, until);
    }

    /// Why no more public users may be made from this address now.
    pub(in crate::http) fn is_full(&self, from: IpAddr) -> Option<Allowance> {
        let now = (self.0.clock)();
        let full = self.0.full.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *full.get(&Who::Address(from))?;
        let wait = until.checked_sub(now).filter(|wait| !wait.is_zero())?;
        let quota = Quota::per_hour(self.0.settings.new_users);
        Some(self.0.new_users.allowance(quota, 0, Some(wait)))
    }
}

/// The address in one element of `X-Forwarded-For`: an address, or one with a port.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    Some(address.ok()?.to_canonical())
}

/// What counts as one caller: whoever has an IPv6 address has a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(traffic.0.failed.limiter.len() <= MOST_KEYS + 1);
    }
}
