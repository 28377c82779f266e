//! Signals that end a program: noted, so that what is under way can be saved before it ends.

use std::sync::atomic::{AtomicI32, Ordering};

/// The first signal that was heard; 0 before.
static HEARD: AtomicI32 = AtomicI32::new(0);

/// The signal that asks this program to end, if one came: its number, which is added to 128 for the exit code.
pub fn heard() -> Option<i32> {
    Some(HEARD.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// What people call a signal: `SIGTERM`.
pub fn name(signal: i32) -> &'static str {
    #[cfg(unix)]
    let name = signal_hook::low_level::signal_name(signal);
    #[cfg(not(unix))]
    let name = (signal == INTERRUPT).then_some("Ctrl-C");
    name.unwrap_or("a signal")
}

/// Notes from now on the signals that end a program: of a terminal, a shell, a container, a service manager, a batch
/// system. One that is ignored already, as SIGHUP by `nohup`, stays so. A second Ctrl-C (or SIGQUIT) ends the
/// program at once; repeated signals of managers don't, since they often come in pairs.
///
/// # Errors
/// What the system says; signals then end the program as usual.
#[cfg(unix)]
pub fn listen() -> std::io::Result<()> {
    use signal_hook::consts::signal as s;
    let ending = [s::SIGHUP, s::SIGINT, s::SIGQUIT, s::SIGTERM, s::SIGALRM, s::SIGVTALRM, s::SIGUSR1, s::SIGUSR2, s::SIGXCPU, PWR];
    let ignored = ignored();
    let listened = ending.into_iter().filter(|signal| *signal > 0 && ignored >> (signal - 1) & 1 == 0);
    if !nunatak_data::threads::is_room() {
        return Err(std::io::ErrorKind::OutOfMemory.into());
    }
    let mut signals = signal_hook::iterator::Signals::new(listened)?;
    let listener = std::thread::Builder::new().name("nunatak-signals".into());
    listener.spawn(move || {
        for signal in signals.forever() {
            let first = HEARD.compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if !first && matches!(signal, s::SIGINT | s::SIGQUIT) {
                std::process::exit(128 + signal);
            }
        }
    })?;
    Ok(())
}

/// Power failure, of Linux alone: how some containers are stopped.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PWR: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 19 } else { 30 };
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
const PWR: i32 = 0;

/// The signals that whoever started this program had it ignore, a bit each; only Linux tells.
#[cfg(unix)]
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0)
}

/// What Ctrl-C is counted as.
#[cfg(not(unix))]
const INTERRUPT: i32 = 2;

/// Notes Ctrl-C from now on; the second ends the program at once.
///
/// # Errors
/// What the system says.
#[cfg(not(unix))]
pub fn listen() -> std::io::Result<()> {
    let handler = || {
        if HEARD.swap(INTERRUPT, Ordering::SeqCst) != 0 {
            std::process::exit(128 + INTERRUPT);
        }
    };
    ctrlc::set_handler(handler).map_err(std::io::Error::other)
}
