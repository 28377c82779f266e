//! The block of memory that a trainer works in.

use crate::failure::Failure;
use crate::model::human_bytes;
use memmap2::MmapMut;

/// Smaller blocks would only become larger by huge pages.
#[cfg(target_os = "linux")]
const WORTH_IT: usize = 8 << 20;

/// Reserves the block of a plan, zeros. Linux is asked for huge pages: a step of one image goes through
/// all weights once, and with pages of 4 kB every 64th cache line waits for its address as well
/// (measured: a training step of ResNet18 at 1 x 64 takes 1.3 times as long).
///
/// # Errors
/// [`Failure`] where the machine has not so much memory, with advice.
pub fn reserve(bytes: usize) -> Result<MmapMut, Failure> {
    reserve_beside(bytes, 0)
}

/// The same, where the run takes `beside` bytes more elsewhere: images on their way, copies while saving. They are not
/// reserved here, but they must be there.
///
/// # Errors
/// As for [`reserve`].
pub fn reserve_beside(bytes: usize, beside: usize) -> Result<MmapMut, Failure> {
    let whole = bytes.saturating_add(beside);
    let parts = match beside {
        0 => String::new(),
        _ => format!(" ({} for the step, {} for images and for saving)", human_bytes(bytes), human_bytes(beside)),
    };
    let too_much = |there: &str| {
        let whole = human_bytes(whole);
        Failure::Failed(format!("this takes {whole} of memory{parts}{there}; take a smaller --batch or --size, or --memory small"))
    };
    // Linux promises memory that it does not have and later kills whoever uses it.
    if let Some((free, of)) = limits().into_iter().filter(|(free, _)| whole as u64 > *free).min() {
        return Err(too_much(&format!(", and {} are free {of}", human_bytes(free as usize))));
    }
    let block = MmapMut::map_anon(bytes.max(1)).map_err(|_| too_much(", more than the system gives"))?;
    // A wish: where it is not granted, everything works all the same.
    #[cfg(target_os = "linux")]
    if bytes >= WORTH_IT {
        let _ = block.advise(memmap2::Advice::HugePage);
    }
    Ok(block)
}

/// Refuses to go on where the system gives no more memory. Small pieces come from a reserve then (`nunatak_heap`), which
/// is for an end in good order.
///
/// # Errors
/// [`Failure`] with advice.
pub fn check_need() -> Result<(), Failure> {
    match nunatak_heap::in_need() {
        false => Ok(()),
        true => Err(Failure::Failed(
            "the system gives no more memory; what was saved stays; free some, or take fewer --threads, a smaller --batch or --size".into(),
        )),
    }
}

/// Bytes that could still be had, and what sets that limit: the machine, the container, the shell's `ulimit -v`. Only
/// Linux tells.
fn limits() -> Vec<(u64, &'static str)> {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let machine = || kilobytes(&text("/proc/meminfo")?, "MemAvailable:");
    let address_space = || {
        let limits = text("/proc/self/limits")?;
        let most =
            limits.lines().find_map(|line| line.strip_prefix("Max address space"))?.split_whitespace().next()?.parse::<u64>().ok()?;
        Some(most.saturating_sub(kilobytes(&text("/proc/self/status")?, "VmSize:")?))
    };
    let found =
        [(machine(), "on this machine"), (container(), "in this container"), (address_space(), "under this shell's limit (ulimit -v)")];
    found.into_iter().filter_map(|(free, of)| Some((free?, of))).collect()
}

/// What the control group of this process may still take: its limit, less what it uses and could not give back.
fn container() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    // Inside a container its own group is the root; outside it lies below.
    [format!("/sys/fs/cgroup/{own}"), "/sys/fs/cgroup".into()].iter().find_map(|folder| {
        let number = |file: &str| std::fs::read_to_string(format!("{folder}/{file}")).ok()?.trim().parse::<u64>().ok();
        let most = number("memory.max")?;
        let stat = std::fs::read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
        let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse::<u64>().ok()).unwrap_or(0);
        Some(most.saturating_sub(number("memory.current")?.saturating_sub(cache)))
    })
}

/// The number of a line such as `MemAvailable:   1234 kB`, in bytes.
fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// The most memory that the process has had, in bytes, where the system tells (Linux).
pub fn peak_rss() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_has_not_is_refused_with_its_number() {
        assert_eq!(kilobytes("MemTotal: 5 kB\nMemAvailable:   1234 kB\n", "MemAvailable:"), Some(1234 * 1024));
        assert_eq!(reserve(100).map(|block| block.len()).ok(), Some(100));
        let error = reserve_beside(1 << 20, 1 << 55).map(drop);
        let text = "this takes 36028797.02 GB of memory (1.0 MB for the step, 36028797.02 GB for images and for saving)";
        assert!(matches!(&error, Err(Failure::Failed(e)) if cfg!(not(target_os = "linux")) || e.starts_with(text)), "{error:?}");
    }
}
