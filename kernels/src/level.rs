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
    #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
    Scalar,
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

/// An instruction set by its name, whether this CPU has it or not: what a step is planned for, perhaps on
/// another machine. A [`Level`] is one that this CPU has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum InstructionSet {
    /// 128-bit vectors of any CPU; one number at a time where there are none.
    Portable,
    /// AArch64.
    Neon,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
}

impl InstructionSet {
    /// All of them, the best of each architecture first.
    pub const ALL: [InstructionSet; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// `portable`, `neon`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Neon => "neon",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`LevelError::Unknown`].
    pub fn by_name(name: &str) -> Result<InstructionSet, LevelError> {
        Self::ALL.into_iter().find(|set| set.name() == name).ok_or(LevelError::Unknown)
    }

    /// The number by which it is stored; never 0.
    pub const fn code(self) -> u32 {
        match self {
            Self::Portable => 1,
            Self::Neon => 2,
            Self::Avx2 => 3,
            Self::Avx512 => 4,
        }
    }

    /// The one that is stored by this number.
    pub fn of_code(code: u32) -> Option<InstructionSet> {
        Self::ALL.into_iter().find(|set| set.code() == code)
    }
}

impl From<Level> for InstructionSet {
    fn from(level: Level) -> Self {
        level.instruction_set()
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Level {
    /// The portable level: every CPU has it.
    pub const PORTABLE: Level = Level(Kind::Portable);

    /// The best level that this CPU has (with `std`) or that the build was made for (without).
    pub fn detect() -> Level {
        Self::available().next().unwrap_or(Self::PORTABLE)
    }

    /// Every level that this CPU has, best first.
    pub fn available() -> impl Iterator<Item = Level> {
        InstructionSet::ALL.into_iter().filter_map(|set| Self::of(set).ok())
    }

    /// The level of this name, if the CPU has it. Besides those that are tried by themselves there is `scalar`: the
    /// portable level one number at a time, which is what boards without SIMD have. With the feature `scalar` a desktop
    /// has it too, and computes the bits that a board will.
    ///
    /// # Errors
    /// [`LevelError`] where the name or the instructions do not exist.
    pub fn by_name(name: &str) -> Result<Level, LevelError> {
        if name == "scalar" {
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            return Ok(Level(Kind::Scalar));
            #[cfg(any(target_arch = "arm", target_arch = "riscv32"))]
            return Ok(Level::PORTABLE);
            #[cfg(not(any(feature = "scalar", target_arch = "arm", target_arch = "riscv32")))]
            return Err(LevelError::Missing("scalar"));
        }
        Self::of(InstructionSet::by_name(name)?)
    }

    /// The level of an instruction set, if the CPU has it.
    ///
    /// # Errors
    /// [`LevelError::Missing`].
    pub fn of(set: InstructionSet) -> Result<Level, LevelError> {
        match set {
            InstructionSet::Portable => return Ok(Level::PORTABLE),
            #[cfg(target_arch = "aarch64")]
            InstructionSet::Neon if cfg!(target_feature = "neon") => return Ok(Level(Kind::Neon)),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 if has_avx2() => return Ok(Level(Kind::Avx2)),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 if has_avx512() => return Ok(Level(Kind::Avx512)),
            InstructionSet::Neon | InstructionSet::Avx2 | InstructionSet::Avx512 => {}
        }
        Err(LevelError::Missing(set.name()))
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

    /// Its instruction set; of `scalar` the portable one, which boards have so.
    pub const fn instruction_set(self) -> InstructionSet {
        match self.0 {
            Kind::Portable => InstructionSet::Portable,
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            Kind::Scalar => InstructionSet::Portable,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => InstructionSet::Neon,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => InstructionSet::Avx2,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => InstructionSet::Avx512,
        }
    }

    /// `portable`, `scalar`, `neon`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(all(feature = "scalar", not(any(target_arch = "arm", target_arch = "riscv32"))))]
            Kind::Scalar => "scalar",
            _ => self.instruction_set().name(),
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
        for set in InstructionSet::ALL {
            assert_eq!((InstructionSet::by_name(set.name()), InstructionSet::of_code(set.code())), (Ok(set), Some(set)));
            assert!(
                Level::of(set).map(InstructionSet::from).is_ok_and(|s| s == set) || Level::of(set) == Err(LevelError::Missing(set.name()))
            );
        }
        assert_eq!(InstructionSet::of_code(0), None);
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
