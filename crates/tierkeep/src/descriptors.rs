//! File descriptors: owns how many the process may have, and how many of them are for connections.

/// How many connections the public may have open at once where descriptors are no matter, and operators on an address of
/// their own.
const MOST: Places = Places {
    public: 4096,
    ops: 64,
};
/// Descriptors for everything else: the files or connections of seven databases, the spool, GitHub, the listeners.
const KEPT: u64 = 256;

/// How many connections each listener may have open at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Callers.
    pub public: usize,
    /// Operators, on an address of their own.
    pub ops: usize,
}

impl Places {
    /// What this many descriptors suffice for; `None` where their number is not known.
    pub fn of(descriptors: Option<u64>) -> Self {
        let Some(descriptors) = descriptors else {
            return MOST;
        };
        let kept = KEPT.min(descriptors / 2);
        let left = usize::try_from(descriptors - kept).unwrap_or(usize::MAX);
        let ops = MOST.ops.min(left / 8).max(1);
        Self {
            public: MOST.public.min(left.saturating_sub(ops)).max(1),
            ops,
        }
    }
}

/// Raises the number of descriptors that the process may have to the most that it may ask for, and answers with it; `None`
/// where it is without a bound or not known.
#[cfg(unix)]
pub fn raised() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current == limit.maximum || setrlimit(Resource::Nofile, wanted).is_ok() {
        return limit.maximum;
    }
    limit.current
}

/// Other systems are left as they are.
#[cfg(not(unix))]
pub fn raised() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, 4096, 64)]
    #[case(Some(1_048_576), 4096, 64)]
    #[case(Some(1024), 704, 64)]
    #[case(Some(64), 28, 4)]
    #[case(Some(1), 1, 1)]
    fn the_places_of_connections_follow_from_the_descriptors(
        #[case] descriptors: Option<u64>,
        #[case] public: usize,
        #[case] ops: usize,
    ) {
        assert_eq!(Places::of(descriptors), Places { public, ops });
    }
}
