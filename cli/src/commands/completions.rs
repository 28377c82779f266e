//! `nunatak completions`: what a shell proposes when Tab is pressed.

use crate::failure::Failure;
use crate::output;
use clap::Command;
use clap_complete::Shell;

/// Options of `nunatak completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
bash:  nunatak completions bash > ~/.local/share/bash-completion/completions/nunatak
zsh:   nunatak completions zsh > DIR/_nunatak, where DIR is in $fpath
fish:  nunatak completions fish > ~/.config/fish/completions/nunatak.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the shell's script for the command line `of`.
///
/// # Errors
/// [`Failure::OutputClosed`].
pub fn run(args: &Args, of: &mut Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, of, "nunatak", &mut script);
    output::write(format_args!("{}", String::from_utf8_lossy(&script)))
}
