//! The heap: owns the settings of the C library's allocator.
//!
//! glibc gives threads arenas of their own, up to eight for each processor, and each keeps what was freed in it; and
//! once a large buffer was freed, the next ones come from there too. A move then takes half as much memory again as it
//! works with. And a process that sets a limit for mapped buffers gets a heap that shrinks at every chance, and takes
//! the same pages from the kernel again a moment later. The allocator can be configured only by an unsafe call, or by
//! the environment before the process begins.

/// Executes the program again in this process, once, with an allocator that gives memory back; if that is not possible,
/// the process continues as it is. Keeps the process id, the arguments and what is open. Variables that are set already
/// are left alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    clippy::disallowed_methods,
    reason = "settings of the C library, not of tierkeep"
)]
pub fn limit() {
    use std::os::unix::process::CommandExt as _;

    /// Arenas; from how many bytes on a buffer is mapped by itself; how many free ones at its end an arena keeps, and by
    /// how many it grows at least.
    const SETTINGS: [(&str, &str); 4] = [
        ("MALLOC_ARENA_MAX", "2"),
        ("MALLOC_MMAP_THRESHOLD_", "2097152"),
        ("MALLOC_TRIM_THRESHOLD_", "16777216"),
        ("MALLOC_TOP_PAD_", "1048576"),
    ];
    let missing = SETTINGS.map(|it| std::env::var_os(it.0).is_none().then_some(it));
    if missing.iter().all(Option::is_none) {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut again = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    again.args(arguments).envs(missing.into_iter().flatten());
    // Returns only where it failed.
    let _ = again.exec();
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn limit() {}
