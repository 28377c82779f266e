//! How a command ends when it does not succeed, and with which exit code.

use crate::output::warn;
use std::fmt::Display;
use std::process::ExitCode;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// What was asked makes no sense: exit code 2.
    Usage(String),
    /// What was asked could not be done: exit code 1.
    Failed(String),
    /// A signal ended it, after everything was saved: exit code 128 and the signal's number, 130 for Ctrl-C.
    Interrupted(i32),
    /// Whoever read our output has gone: exit code 1, without a word.
    OutputClosed,
}

impl Failure {
    /// A usage error.
    pub fn usage(what: impl Display) -> Failure {
        Failure::Usage(what.to_string())
    }
    /// Something that went wrong with something: `what: why`.
    pub fn with(what: impl Display, why: impl Display) -> Failure {
        Failure::Failed(format!("{what}: {why}"))
    }
    /// The same failure, of the file or folder `what`.
    pub fn of(self, what: impl Display) -> Failure {
        match self {
            Failure::Usage(text) => Failure::Usage(format!("{what}: {text}")),
            Failure::Failed(text) => Failure::Failed(format!("{what}: {text}")),
            ended => ended,
        }
    }
    /// The message.
    pub fn text(&self) -> String {
        match self {
            Failure::Usage(text) | Failure::Failed(text) => text.clone(),
            Failure::Interrupted(signal) => format!("signal {signal}"),
            Failure::OutputClosed => "nobody reads any more".into(),
        }
    }
    /// Prints the message to stderr and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Failure::Usage(text) => {
                warn(format_args!("error: {text}"));
                ExitCode::from(2)
            }
            Failure::Failed(text) => {
                warn(format_args!("error: {text}"));
                ExitCode::from(1)
            }
            Failure::Interrupted(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            Failure::OutputClosed => ExitCode::from(1),
        }
    }
}

impl From<nunatak_nn::Error> for Failure {
    fn from(e: nunatak_nn::Error) -> Failure {
        Failure::Failed(e.to_string())
    }
}

impl From<nunatak_nn::files::state::StateError> for Failure {
    fn from(e: nunatak_nn::files::state::StateError) -> Failure {
        Failure::Failed(e.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        if e.kind() == std::io::ErrorKind::BrokenPipe { Failure::OutputClosed } else { Failure::Failed(e.to_string()) }
    }
}
