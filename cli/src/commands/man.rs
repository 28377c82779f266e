//! `nunatak man`: a page of the manual for the program and for each of its commands.

use crate::failure::Failure;
use crate::model::replace;
use crate::outln;
use clap::Command;
use std::path::PathBuf;

/// Options of `nunatak man`.
#[derive(clap::Args, Debug)]
#[command(after_help = "nunatak man ~/.local/share/man/man1, then: man nunatak-finetune")]
pub struct Args {
    /// The folder, which is made where it is missing: nunatak.1, nunatak-finetune.1 and so on go there
    dir: PathBuf,
}

/// Writes the pages for the command line `of`.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn run(args: &Args, of: Command) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.dir).map_err(|e| Failure::with(args.dir.display(), e))?;
    let of = of.disable_help_subcommand(true);
    let mut pages = vec![("nunatak".to_string(), of.clone())];
    for command in of.get_subcommands() {
        let name = format!("nunatak-{}", command.get_name());
        // A page is named as it is looked up, and shows the command as it is typed.
        let page =
            command.clone().display_name(&name).bin_name(format!("nunatak {}", command.get_name())).version(env!("CARGO_PKG_VERSION"));
        pages.push((name, page));
    }
    for (name, command) in pages {
        let path = args.dir.join(format!("{name}.1"));
        let mut text = Vec::new();
        clap_mangen::Man::new(command).render(&mut text).map_err(|e| Failure::with(path.display(), e))?;
        replace(&path, &text)?;
        outln!("{}", path.display())?;
    }
    Ok(())
}
