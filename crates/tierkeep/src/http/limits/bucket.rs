//! Token buckets: owns how requests of one policy are counted, and the headers that say what is left.
//!
//! Memory is bounded: beyond [`MOST_KEYS`] busy callers, new ones share one bucket.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tierkeep_core::user::UserId;

/// The most callers that a bucket is kept for at once.
pub(super) const MOST_KEYS: usize = 100_000;

/// A monotonic clock: the time since an arbitrary moment.
pub type Steady = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The monotonic clock of the process.
pub fn steady() -> Steady {
    let began = Instant::now();
    Arc::new(move || began.elapsed())
}

/// What is left of a bucket after a request was counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::http) struct Allowance {
    policy: &'static str,
    burst: u32,
    window_seconds: u64,
    pub(super) remaining: u32,
    reset_seconds: u64,
}

impl Allowance {
    /// The name of the policy.
    pub(super) fn policy(&self) -> &'static str {
        self.policy
    }

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

/// The callers whose requests share a bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum BucketKey {
    Address(IpAddr),
    User(UserId),
    AddressAndUser(IpAddr, UserId),
    /// Callers beyond [`MOST_KEYS`].
    Others,
}

#[derive(Clone)]
struct SteadyClock(Steady);

impl GovernorClock for SteadyClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        (self.0)()
    }
}

/// The token buckets of one policy, one for each key.
pub(super) struct Bucket {
    policy: &'static str,
    clock: SteadyClock,
    limiter: RateLimiter<
        BucketKey,
        DashMapStateStore<BucketKey>,
        SteadyClock,
        StateInformationMiddleware,
    >,
}

impl Bucket {
    pub(super) fn new(policy: &'static str, quota: Quota, clock: &Steady) -> Self {
        let clock = SteadyClock(Arc::clone(clock));
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone()).with_middleware();
        Self {
            policy,
            clock,
            limiter,
        }
    }

    /// Counts one request; an error where it is one too many.
    pub(super) fn count(&self, key: BucketKey) -> Result<Allowance, Allowance> {
        let key = if self.limiter.len() < MOST_KEYS {
            key
        } else {
            self.limiter.retain_recent();
            if self.limiter.len() < MOST_KEYS {
                key
            } else {
                BucketKey::Others
            }
        };
        match self.limiter.check_key(&key) {
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

    pub(super) fn allowance(
        &self,
        quota: Quota,
        remaining: u32,
        wait: Option<Duration>,
    ) -> Allowance {
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

#[cfg(test)]
impl Bucket {
    /// How many keys have a bucket.
    pub(super) fn len(&self) -> usize {
        self.limiter.len()
    }
}
