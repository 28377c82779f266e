//! Batches of preprocessed images, decoded by threads ahead of their use.
//!
//! What comes out depends on the samples, the order, the preset and the seed alone, not on
//! the number of threads nor on which of them was quicker: every image has a place in the
//! order, is handed over at that place, and draws its random numbers from a generator of its
//! own, seeded from (seed, epoch, index of the sample, how often the order named it before).
//!
//! At most [`LoaderOptions::ahead`] images are held decoded and waiting. An image that can't
//! be read is left out of its batch and named in [`Batch::skipped`]; the places of the others
//! don't move, so batch `k` of an epoch always covers the same samples and an epoch can be
//! resumed at any batch.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nunatak_core::rng::Generator;

use crate::decode;
use crate::folder::Sample;
use crate::preprocess::{Normalize, Preset};
use crate::threads::is_room;

/// Spreads every bit of `x` over all 64 (the finaliser of splitmix64), because a seed of
/// mt19937 is only the low 32 and neighbours should not be neighbours there.
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// How a loader works.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderOptions {
    /// Images in a batch; the last batch of an epoch has what is left.
    pub batch: usize,
    /// What is done to each image.
    pub preset: Preset,
    /// How files become pictures.
    pub decode: decode::Options,
    /// Seed of the random cuts.
    pub seed: u64,
    /// Threads that decode. With 0 the caller's own thread does.
    pub threads: usize,
    /// How many images may lie decoded and waiting, `3 · size²` bytes each. At least 1.
    pub ahead: usize,
}

impl LoaderOptions {
    /// One decoding thread, one batch ahead.
    pub fn new(batch: usize, preset: Preset) -> Self {
        Self { batch, preset, decode: decode::Options::new(), seed: 0, threads: 1, ahead: batch.max(1) }
    }
}

/// Why a loader or an epoch can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoaderError {
    /// Batches of no image.
    EmptyBatch,
    /// The preset makes images of no pixel, or of more bytes than there are addresses.
    Size(usize),
    /// More samples than an order can number.
    TooManySamples(usize),
    /// An order that names a sample there is not.
    Order {
        /// The index.
        index: u32,
        /// How many samples there are.
        samples: usize,
    },
    /// An epoch was to start after its last batch.
    Start {
        /// The batch asked for, counted from 0.
        batch: usize,
        /// How many there are.
        batches: usize,
    },
}

impl fmt::Display for LoaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyBatch => f.write_str("a batch must have at least 1 image, not 0"),
            Self::Size(size) => write!(f, "a batch of images of {size} x {size} can't be held"),
            Self::TooManySamples(n) => write!(f, "{n} samples; at most 4294967295 can be loaded"),
            Self::Order { index, samples } => {
                write!(f, "the order names sample {index} of {samples}")
            }
            Self::Start { batch, batches } => write!(f, "an epoch of {batches} batches can't start at batch {batch}"),
        }
    }
}

impl std::error::Error for LoaderError {}

/// Some images and their labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Its number in the epoch, from 0.
    pub number: usize,
    /// The pixels, red, green and blue of each: `[labels.len(), size, size, 3]`.
    pub pixels: Vec<u8>,
    /// How they become floats.
    pub normalize: Normalize,
    /// The class of each image. Empty if every image of the batch had to be left out.
    pub labels: Vec<i64>,
    /// Which sample each image is.
    pub indices: Vec<usize>,
    /// Images left out of this batch, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Samples and how to load them.
#[derive(Clone, Debug)]
pub struct Loader {
    samples: Arc<[Sample]>,
    options: LoaderOptions,
}

impl Loader {
    /// Checks the options.
    pub fn new(samples: impl Into<Arc<[Sample]>>, options: LoaderOptions) -> Result<Self, LoaderError> {
        let samples = samples.into();
        let size = options.preset.size();
        if options.batch == 0 {
            return Err(LoaderError::EmptyBatch);
        }
        // No vector may exceed isize::MAX bytes, nor the floats that become of it.
        let bytes = size.checked_mul(size).and_then(|n| n.checked_mul(12)).and_then(|n| n.checked_mul(options.batch));
        if size == 0 || bytes.is_none_or(|n| isize::try_from(n).is_err()) {
            return Err(LoaderError::Size(size));
        }
        if u32::try_from(samples.len()).is_err() {
            return Err(LoaderError::TooManySamples(samples.len()));
        }
        Ok(Self { samples, options })
    }

    /// How many samples there are.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Batches in an epoch over all samples.
    pub fn batches(&self) -> usize {
        self.samples.len().div_ceil(self.options.batch)
    }

    /// Begins an epoch at batch `start` (0 unless resuming). `order` says which sample comes
    /// when; `epoch` makes its random cuts differ from those of other epochs.
    pub fn epoch(&self, order: Vec<u32>, epoch: u64, start: usize) -> Result<Batches, LoaderError> {
        let samples = self.samples.len();
        if let Some(&index) = order.iter().find(|&&i| i as usize >= samples) {
            return Err(LoaderError::Order { index, samples });
        }
        let batches = order.len().div_ceil(self.options.batch);
        if start > batches {
            return Err(LoaderError::Start { batch: start, batches });
        }
        let first = (start * self.options.batch).min(order.len());
        let work = Arc::new(Work {
            samples: Arc::clone(&self.samples),
            preset: self.options.preset,
            decode: self.options.decode,
            seed: mix(mix(self.options.seed) ^ epoch),
            ahead: self.options.ahead.max(1),
            repeats: repeats(&order, samples),
            order,
            queue: Mutex::new(Queue { next: first, given: first, slots: VecDeque::new(), closed: false }),
            room: Condvar::new(),
            ready: Condvar::new(),
        });
        let threads = self.options.threads.min(work.order.len() - first);
        let workers = (0..threads)
            .map_while(|i| {
                let work = Arc::clone(&work);
                // A machine that has no thread to spare still trains: the consumer then
                // does what no worker has begun.
                let builder = std::thread::Builder::new().name(format!("nunatak-load-{i}"));
                is_room().then(|| builder.spawn(move || work.run()).ok()).flatten()
            })
            .collect();
        Ok(Batches { work, workers, batch: self.options.batch, at: first, number: start })
    }
}

/// For each place of an order, how often it named the same of so many samples before; nothing where that is never.
fn repeats(order: &[u32], samples: usize) -> Vec<u32> {
    let mut times = vec![0_u32; samples];
    let before = |index: &u32| {
        let times = &mut times[*index as usize];
        *times += 1;
        *times - 1
    };
    let repeats: Vec<u32> = order.iter().map(before).collect();
    if repeats.iter().all(|times| *times == 0) { Vec::new() } else { repeats }
}

/// One decoded image, or why there is none.
type Loaded = Result<Vec<u8>, String>;

/// What the threads of an epoch share.
struct Work {
    samples: Arc<[Sample]>,
    order: Vec<u32>,
    /// How often the order named the sample of a place before; empty where it names none twice.
    repeats: Vec<u32>,
    preset: Preset,
    decode: decode::Options,
    seed: u64,
    ahead: usize,
    queue: Mutex<Queue>,
    /// There is room for another image, or the end has come.
    room: Condvar,
    /// An image is ready.
    ready: Condvar,
}

struct Queue {
    /// The next place that nobody has begun.
    next: usize,
    /// The place that the consumer wants next; `slots[0]` is its.
    given: usize,
    /// Places `given..next`, `None` while being worked on.
    slots: VecDeque<Option<Loaded>>,
    closed: bool,
}

impl Queue {
    fn begin(&mut self) -> usize {
        self.slots.push_back(None);
        self.next += 1;
        self.next - 1
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding it, and if so the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut queue = self.lock();
        loop {
            if queue.closed || queue.next == self.order.len() {
                return;
            }
            if queue.slots.len() >= self.ahead {
                queue = self.room.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let place = queue.begin();
            drop(queue);
            let loaded = self.load(place);
            queue = self.lock();
            // The consumer waits for its place, so `given` has not passed this one.
            let slot = place - queue.given;
            if let Some(slot) = queue.slots.get_mut(slot) {
                *slot = Some(loaded);
            }
            self.ready.notify_all();
        }
    }

    /// Never panics: the consumer would wait for ever for a place whose worker is gone.
    fn load(&self, place: usize) -> Loaded {
        catch_unwind(AssertUnwindSafe(|| self.load_or_panic(place))).unwrap_or_else(|_| Err("made the loader fail (a bug)".into()))
    }

    fn load_or_panic(&self, place: usize) -> Loaded {
        let index = self.order[place];
        let sample = &self.samples[index as usize];
        let picture = decode::read_with(&sample.path, self.decode).map_err(|e| e.reason)?;
        let seed = mix(self.seed ^ mix(u64::from(index)));
        // An image that comes again is cut otherwise.
        let seed = self.repeats.get(place).filter(|times| **times > 0).map_or(seed, |times| mix(seed ^ u64::from(*times)));
        let mut generator = Generator::manual_seed(seed);
        let size = self.preset.size();
        let mut pixels = vec![0; 3 * size * size];
        self.preset.apply(&picture, &mut generator, &mut pixels);
        Ok(pixels)
    }

    /// The image at the consumer's place.
    fn take(&self, have_workers: bool) -> Loaded {
        let mut queue = self.lock();
        loop {
            if queue.slots.is_empty() && !have_workers {
                let place = queue.begin();
                drop(queue);
                let loaded = self.load(place);
                queue = self.lock();
                queue.slots[0] = Some(loaded);
            }
            if let Some(Some(_)) = queue.slots.front() {
                queue.given += 1;
                let loaded = queue.slots.pop_front().flatten();
                self.room.notify_one();
                return loaded.unwrap_or_else(|| Err("was lost by the loader".into()));
            }
            queue = self.ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The batches of an epoch, in order. Dropping it stops the threads.
pub struct Batches {
    work: Arc<Work>,
    workers: Vec<JoinHandle<()>>,
    batch: usize,
    at: usize,
    number: usize,
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches(next {}, {} threads)", self.number, self.workers.len())
    }
}

impl Batches {
    /// Fills `batch` with the next batch, reusing its memory; false if there is none.
    pub fn next_into(&mut self, batch: &mut Batch) -> bool {
        batch.number = self.number;
        batch.normalize = self.work.preset.normalize();
        batch.pixels.clear();
        batch.labels.clear();
        batch.indices.clear();
        batch.skipped.clear();
        let order = &self.work.order;
        let end = order.len().min(self.at.saturating_add(self.batch));
        if self.at == end {
            return false;
        }
        for &index in &order[self.at..end] {
            let index = index as usize;
            let sample = &self.work.samples[index];
            match self.work.take(!self.workers.is_empty()) {
                Ok(pixels) => {
                    batch.pixels.extend_from_slice(&pixels);
                    batch.labels.push(sample.label as i64);
                    batch.indices.push(index);
                }
                Err(reason) => batch.skipped.push((sample.path.clone(), reason)),
            }
        }
        self.at = end;
        self.number += 1;
        true
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        self.next_into(&mut batch).then_some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.work.order.len() - self.at).div_ceil(self.batch);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        self.work.lock().closed = true;
        self.work.room.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so; there is nothing left to save.
            let _ = worker.join();
        }
    }
}
