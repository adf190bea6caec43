//! Questions to GitHub: owns how many are asked for the sake of a caller.
//!
//! They count for the address and the JWT's subject together. By address alone, one who makes up tokens would keep others behind the
//! same address from being checked; by subject alone, one with a stolen JWT would shut its owner out.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

use tierkeep_core::user::UserId;
use tierkeep_identity::QuestionLimit;

use super::bucket::Allowance;
use super::traffic::Traffic;

/// The limit on the questions for one request.
pub(in crate::http) struct GithubLimit<'a> {
    traffic: &'a Traffic,
    from: IpAddr,
    refused: OnceLock<Allowance>,
}

impl<'a> GithubLimit<'a> {
    pub(super) fn new(traffic: &'a Traffic, from: IpAddr) -> Self {
        Self {
            traffic,
            from,
            refused: OnceLock::new(),
        }
    }

    /// What is left of the caller's bucket, where GitHub was not asked because of it.
    pub(in crate::http) fn refused(&self) -> Option<Allowance> {
        self.refused.get().copied()
    }
}

impl fmt::Debug for GithubLimit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GithubLimit").field(&self.from).finish()
    }
}

impl QuestionLimit for GithubLimit<'_> {
    fn admit(&self, user: &UserId) -> Result<(), Duration> {
        let Err(refused) = self.traffic.asks_github(self.from, user) else {
            return Ok(());
        };
        self.refused.get_or_init(|| refused);
        Err(Duration::from_secs(refused.retry_after_seconds()))
    }
}
