//! The names that generated code has.

use super::Region;
use crate::failure::Failure;

/// A name in small and in capital letters, and the regions'.
pub(super) struct Names {
    /// Of functions and files.
    pub(super) lower: String,
    /// Of constants.
    pub(super) upper: String,
    /// The regions', as parts of constants'.
    pub(super) regions: Vec<String>,
}

impl Names {
    /// Of an export.
    ///
    /// # Errors
    /// [`Failure::Usage`] where C could not have the names.
    pub(super) fn new(name: &str, regions: &[Region]) -> Result<Names, Failure> {
        check("--name", name)?;
        regions.iter().try_for_each(|region| check("--region", &region.name))?;
        let regions: Vec<String> = regions.iter().map(|region| region.name.to_ascii_uppercase()).collect();
        match (1..regions.len()).find(|i| regions[..*i].contains(&regions[*i])) {
            Some(i) => Err(Failure::usage(format_args!("--region {}: two have this name", regions[i].to_ascii_lowercase()))),
            None => Ok(Names { lower: name.to_ascii_lowercase(), upper: name.to_ascii_uppercase(), regions }),
        }
    }
}

fn check(what: &str, name: &str) -> Result<(), Failure> {
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match fits && name.len() <= 32 {
        true => Ok(()),
        false => Err(Failure::usage(format_args!("{what} {name:?}: expected a letter, then letters, digits and _, 32 at most"))),
    }
}
