//! The files that a command reads and writes: that none is written over another.

use crate::failure::Failure;
use std::path::{Path, PathBuf};

/// A file, and what it is to the command: the option that names it, or a description.
pub type Named = (&'static str, PathBuf);

/// Refuses a file that is written under two names, or read and written.
///
/// # Errors
/// [`Failure::Usage`] that names both and the file.
pub fn refuse_same(written: &[Named], read: &[Named]) -> Result<(), Failure> {
    let all: Vec<&Named> = written.iter().chain(read).collect();
    for (i, (what, path)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..i.min(written.len())].iter().find(|(_, earlier)| real(earlier) == real(path)) {
            let path = path.display();
            return Err(Failure::usage(format_args!("{other} and {what} are the same file, {path}; give them different names")));
        }
    }
    Ok(())
}

/// One spelling of a path, whether the file is there or not.
pub(crate) fn real(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = || Some(std::fs::canonicalize(folder).ok()?.join(path.file_name()?));
    std::fs::canonicalize(path).ok().or_else(made).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_file_are_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "").unwrap();
        std::fs::create_dir(at("d")).unwrap();
        let check = |written: &str, read: &str| refuse_same(&[("--out", at(written))], &[("--weights", at(read))]);
        for (written, read) in [("a", "a"), ("a", "./a"), ("d/../a", "a"), ("new", "d/../new")] {
            let error = check(written, read);
            assert!(matches!(error, Err(Failure::Usage(text)) if text.contains("--out and --weights")), "{written} {read}");
        }
        assert!(check("a", "b").is_ok() && check("d/a", "a").is_ok());
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("a"), at("link")).unwrap();
            assert!(check("link", "a").is_err());
        }
        assert!(refuse_same(&[], &[("a", at("a")), ("b", at("a"))]).is_ok(), "what is only read may be the same");
        assert!(refuse_same(&[("a", at("a")), ("b", at("a"))], &[]).is_err());
    }
}
