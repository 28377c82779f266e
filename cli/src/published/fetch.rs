//! Downloading a file of published weights: attempts until it is whole, its hash, its name.

use super::bar::Bar;
use super::http::{self, Stop};
use super::part::{Part, held};
use super::places::{Patience, Places};
use super::table::Weights;
use crate::failure::Failure;
use crate::lock::Lock;
use crate::model::human_bytes;
use crate::output::say;
use crate::signals;
use nunatak_nn::files::atomic;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use ureq::Agent;

/// The file of these weights: the one that is on this machine already, or one that is downloaded now.
///
/// # Errors
/// [`Failure`] that names the address and the file, and says what to do by hand.
pub fn get(weights: &Weights, places: &Places) -> Result<PathBuf, Failure> {
    if let Some(path) = held(weights, places, true) {
        return Ok(path);
    }
    if places.offline {
        let name = weights.name();
        return Err(Failure::with(
            name,
            format_args!("is not on this machine, and NUNATAK_OFFLINE forbids to download it: {}", places.by_hand(weights)),
        ));
    }
    let target = places.target(weights);
    let lost = |what: &str| Failure::Failed(format!("{what}; NUNATAK_CACHE names another folder to keep weights in"));
    std::fs::create_dir_all(&places.cache).map_err(|e| lost(&format!("{}: can't be made: {e}", places.cache.display())))?;
    let lock = Lock::wait(&target, |owner| say(format_args!("{owner} is downloading {}: waiting for it", target.display())));
    let _lock = lock.map_err(|e| if let Failure::Failed(what) = e { lost(&what) } else { e })?;
    // The other process may have brought it.
    if let Some(path) = held(weights, places, false) {
        return Ok(path);
    }
    // What processes that were killed left half written, but for parts, which are gone on with.
    atomic::sweep(&places.cache);
    Download { agent: http::agent(places)?, address: places.address(weights), weights, places }.run(&target)?;
    Ok(target)
}

struct Download<'a> {
    agent: Agent,
    address: String,
    weights: &'a Weights,
    places: &'a Places,
}

impl Download<'_> {
    /// Brings the file.
    fn run(&self, target: &Path) -> Result<(), Failure> {
        let mut part = Part::open(target)?;
        match self.bring(&mut part) {
            Ok(true) => part.finish(target, self.weights)?,
            Ok(false) => return Err(self.wrong(part)),
            Err(failure) => {
                if part.is_empty() {
                    let _ = part.remove();
                }
                return Err(failure);
            }
        }
        say(format_args!("{} is at {}", self.weights.name(), target.display()));
        Ok(())
    }

    /// Fills a part; tells whether it is the right file then.
    fn bring(&self, part: &mut Part) -> Result<bool, Failure> {
        if !part.is_empty() && part.is_whole(self.weights)? {
            return Ok(true);
        }
        self.fill(part)?;
        if !part.is_whole(self.weights)? && part.is_joined() {
            // Its pieces may be of different files.
            say(format_args!("note: {}: the hash is wrong; beginning anew", part.path().display()));
            part.begin(None)?;
            self.fill(part)?;
        }
        part.is_whole(self.weights)
    }

    /// Attempts until the server has sent everything.
    fn fill(&self, part: &mut Part) -> Result<(), Failure> {
        let Patience { attempts, pause, .. } = self.places.patience;
        let from = if part.is_empty() { String::new() } else { format!(", from byte {} on", part.len()) };
        say(format_args!("downloading {} ({}{from})", self.address, human_bytes(self.weights.bytes as usize)));
        let bar = Bar::new(self.weights.file, self.weights.bytes);
        let mut failed = 0;
        loop {
            let before = part.len();
            let why = match self.attempt(part, &bar) {
                Ok(()) => return Ok(()),
                Err(Stop::Here(failure)) => return Err(failure),
                Err(Stop::Lasting(why)) => return Err(self.failed(&why, part)),
                Err(Stop::Passing(why)) => why,
            };
            failed = if part.len() >= before.saturating_add(Patience::PROGRESS) { 1 } else { failed + 1 };
            if failed >= attempts {
                return Err(self.failed(&format!("{why}; {failed} attempts failed"), part));
            }
            let pause = pause.saturating_mul(1 << (failed - 1).min(5));
            bar.line(format_args!("note: {}: {why}; trying again from byte {}", self.address, part.len()));
            wait(pause)?;
        }
    }

    /// One request, and its bytes into the part.
    fn attempt(&self, part: &mut Part, bar: &Bar) -> Result<(), Stop> {
        let http::Answer { mut bytes, total } = http::ask(&self.agent, &self.address, part, self.weights)?;
        bar.begin(part.len());
        let mut room = vec![0; 1 << 16];
        loop {
            if let Some(signal) = signals::heard() {
                return Err(Stop::Here(Failure::Interrupted(signal)));
            }
            let read = http::read(&mut bytes, &mut room)?;
            if read == 0 {
                break;
            }
            part.append(&room[..read], self.weights)?;
            if part.len() > self.weights.most_bytes() {
                part.begin(None)?;
                return Err(Stop::Lasting(http::too_large("bytes without end", self.weights)));
            }
            bar.show(part.len(), total);
        }
        match total.filter(|total| *total != part.len()) {
            Some(total) => Err(Stop::Passing(format!("the connection ended after {} of {total} bytes", part.len()))),
            None => Ok(()),
        }
    }

    /// What is said where no file came.
    fn failed(&self, why: &str, part: &Part) -> Failure {
        let kept = match part.len() {
            0 => String::new(),
            len => format!("; the first {} are kept, and the same command goes on from there", human_bytes(len as usize)),
        };
        Failure::with(
            &self.address,
            format_args!("can't be downloaded: {why}{kept}. Without this server: {}", self.places.by_hand(self.weights)),
        )
    }

    /// What is said where something else came; it is removed.
    fn wrong(&self, part: Part) -> Failure {
        let (path, len) = (part.path().to_owned(), part.len());
        let hash = super::part::sha256(&path).unwrap_or_default();
        let page = if is_web_page(&path) { " It is a web page: a login page or a proxy may stand between." } else { "" };
        let removed = part.remove().map_or_else(|e| format!("could not be removed ({})", e.text()), |()| "was not kept".into());
        let known = self.weights.hash.len().min(hash.len());
        Failure::with(
            &self.address,
            format_args!(
                "what came is another file, and {removed}: its {len} bytes have a SHA-256 that begins with {}, expected {}.{page} Without \
                 this server: {}",
                &hash[..known],
                self.weights.hash,
                self.places.by_hand(self.weights)
            ),
        )
    }
}

/// Whether a file begins as a web page does.
fn is_web_page(path: &Path) -> bool {
    let mut first = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(64).read_to_end(&mut first));
    let first = first.trim_ascii_start().to_ascii_lowercase();
    read.is_ok() && (first.starts_with(b"<!doctype html") || first.starts_with(b"<html"))
}

/// Waits, unless a signal comes.
fn wait(pause: Duration) -> Result<(), Failure> {
    let until = Instant::now() + pause;
    while Instant::now() < until {
        if let Some(signal) = signals::heard() {
            return Err(Failure::Interrupted(signal));
        }
        std::thread::sleep(Duration::from_millis(50).min(until.saturating_duration_since(Instant::now())));
    }
    Ok(())
}
