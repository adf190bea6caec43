//! The heap: owns how many arenas the C library's allocator has.
//!
//! glibc gives threads arenas of their own, up to eight for each processor, and each keeps what was freed in it: a
//! move then takes a third more memory than it works with. The allocator can be told only by an unsafe call, or by the
//! environment before the process begins.

/// Puts the process in its own place once, with two arenas; where that is not possible, it goes on as it is. Keeps the
/// process id, the arguments and what is open. Whoever set `MALLOC_ARENA_MAX` is left alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    clippy::disallowed_methods,
    reason = "a setting of the C library, not of tierkeep"
)]
pub fn limit() {
    use std::os::unix::process::CommandExt as _;

    const LIMIT: &str = "MALLOC_ARENA_MAX";
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    if std::env::var_os(LIMIT).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // Returns only where it failed.
    let _ = again.args(arguments).env(LIMIT, "2").exec();
}

/// Other allocators know no arenas.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn limit() {}
