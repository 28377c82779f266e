//! Which instruction set to use: asked of the CPU once, then passed down as a value.

use crate::isa::portable::Portable;
use core::fmt;

/// An instruction set that this CPU has: a value of this type is the proof.
///
/// There is no global choice: a level is handed to every kernel, so that tests can loop over
/// [`Level::available`] and nothing falls back silently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Level(Kind);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Portable,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A level that was asked for by name and can't be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LevelError {
    /// No level has that name.
    Unknown,
    /// The level exists, but not on this CPU (or not in this build).
    Missing(&'static str),
}

impl fmt::Display for LevelError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no such instruction-set level; known: portable, neon, avx2, avx512"),
            Self::Missing(name) => write!(f, "this CPU (or this build) has no {name}; best available: {}", Level::detect()),
        }
    }
}

impl core::error::Error for LevelError {}

/// Everything a level can do, for all CPUs of an architecture: the names, best first.
const NAMES: [&str; 4] = ["avx512", "avx2", "neon", "portable"];

impl Level {
    /// The portable level: every CPU has it.
    pub const PORTABLE: Level = Level(Kind::Portable);

    /// The best level that this CPU has (with `std`) or that the build was made for (without).
    pub fn detect() -> Level {
        Self::available().next().unwrap_or(Self::PORTABLE)
    }

    /// Every level that this CPU has, best first.
    pub fn available() -> impl Iterator<Item = Level> {
        NAMES.into_iter().filter_map(|name| Self::by_name(name).ok())
    }

    /// The level of this name, if the CPU has it.
    ///
    /// # Errors
    /// [`LevelError`] where the name or the instructions do not exist.
    pub fn by_name(name: &str) -> Result<Level, LevelError> {
        match name {
            "portable" => Ok(Level::PORTABLE),
            "neon" => {
                #[cfg(target_arch = "aarch64")]
                if cfg!(target_feature = "neon") {
                    return Ok(Level(Kind::Neon));
                }
                Err(LevelError::Missing("neon"))
            }
            "avx2" => {
                #[cfg(target_arch = "x86_64")]
                if has_avx2() {
                    return Ok(Level(Kind::Avx2));
                }
                Err(LevelError::Missing("avx2"))
            }
            "avx512" => {
                #[cfg(target_arch = "x86_64")]
                if has_avx512() {
                    return Ok(Level(Kind::Avx512));
                }
                Err(LevelError::Missing("avx512"))
            }
            _ => Err(LevelError::Unknown),
        }
    }

    /// The level that `NUNATAK_LEVEL` names, or the best one where it is not set.
    ///
    /// # Errors
    /// [`LevelError`] where the variable names a level that does not exist here.
    #[cfg(feature = "std")]
    pub fn from_environment() -> Result<Level, LevelError> {
        match std::env::var("NUNATAK_LEVEL") {
            Ok(name) => Self::by_name(&name),
            Err(_) => Ok(Self::detect()),
        }
    }

    /// `portable`, `neon`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.0
    }

    pub(crate) const fn portable(self) -> Portable {
        Portable
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

#[cfg(all(target_arch = "x86_64", feature = "std"))]
fn has_avx512() -> bool {
    has_avx2() && std::arch::is_x86_feature_detected!("avx512f")
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
const fn has_avx2() -> bool {
    cfg!(all(target_feature = "avx2", target_feature = "fma"))
}

#[cfg(all(target_arch = "x86_64", not(feature = "std")))]
const fn has_avx512() -> bool {
    has_avx2() && cfg!(target_feature = "avx512f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_portable_is_always_there() {
        let mut last = None;
        for level in Level::available() {
            assert_eq!(Level::by_name(level.name()), Ok(level));
            last = Some(level);
        }
        assert_eq!(last, Some(Level::PORTABLE));
        assert_eq!(Level::by_name("sse9"), Err(LevelError::Unknown));
    }

    /// Whoever knows the CPU (an emulator's, say) tells which levels are due, best first.
    #[test]
    #[cfg(feature = "std")]
    fn the_levels_that_are_due_are_there_and_no_others() {
        if let Ok(due) = std::env::var("NUNATAK_EXPECT_LEVELS") {
            let levels: std::vec::Vec<_> = Level::available().map(Level::name).collect();
            assert_eq!(levels, due.split(',').collect::<std::vec::Vec<_>>());
            assert_eq!(Level::detect().name(), levels[0]);
        }
    }
}
