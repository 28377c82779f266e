//! Features of images, kept in a board's raw flash.

use crate::boundary::{Args, Out, call, slice, slice_mut};
use crate::handles::Entered;
use crate::status::{Failure, fail, nunatak_status};
use crate::trainer::nunatak_trainer;
use crate::versions::{Versioned, read};
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicUsize, Ordering};
use nunatak_nn::files::ring::{Flash, Ring, RingError};

/// Bytes of a key: which network and preprocessing features are of.
pub const NUNATAK_KEY_BYTES: usize = 32;

/// Reads `bytes` bytes of flash from `at` on. 0, or a number of the caller's that says why not.
pub type nunatak_flash_read_callback = Option<extern "C" fn(user: *mut c_void, at: usize, out: *mut c_void, bytes: usize) -> c_int>;

/// Erases the page of flash that begins at `at`: its bytes are 0xff then. 0, or a number of the caller's that says why not.
pub type nunatak_flash_erase_callback = Option<extern "C" fn(user: *mut c_void, at: usize) -> c_int>;

/// Programs `count` bytes of erased flash from `at` on, both multiples of the unit. 0, or a number of the caller's that
/// says why not.
pub type nunatak_flash_program_callback = Option<extern "C" fn(user: *mut c_void, at: usize, bytes: *const c_void, count: usize) -> c_int>;

/// Raw flash: sizes, and functions that reach it. They may not call the library for the features that they serve:
/// `NUNATAK_BUSY`. They must return; left by longjmp, the features must be opened again.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_flash {
    /// sizeof(nunatak_flash), as for `nunatak_config`.
    pub struct_bytes: usize,
    /// Bytes in all, a multiple of the page: see `nunatak_features_flash_bytes`.
    pub size: usize,
    /// Bytes that are erased at once.
    pub page: usize,
    /// Bytes that are programmed at once, 1 to 64, a divisor of the page; each only once between two erasures.
    pub unit: usize,
    /// Reads.
    pub read: nunatak_flash_read_callback,
    /// Erases.
    pub erase: nunatak_flash_erase_callback,
    /// Programs.
    pub program: nunatak_flash_program_callback,
    /// Handed to every call; it may be NULL.
    pub user: *mut c_void,
}

// SAFETY: repr(C), the size first, no padding; a callback is NULL or an address.
unsafe impl Versioned for nunatak_flash {
    const NAME: &'static str = "nunatak_flash";
    const OLDEST: usize = size_of::<nunatak_flash>();
    fn defaults() -> nunatak_flash {
        let user = core::ptr::null_mut();
        nunatak_flash { struct_bytes: Self::OLDEST, size: 0, page: 0, unit: 0, read: None, erase: None, program: None, user }
    }
}

/// A ring of features in flash. It belongs to the caller, who fills it with zeros before it is first opened, and keeps it where
/// it was opened; what is in it is the library's. The records are in the flash alone: nothing is lost where it is given up, and nothing need be closed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct nunatak_features {
    /// sizeof(nunatak_features), which `nunatak_features_open` sets.
    pub struct_bytes: usize,
    /// The library's.
    pub state: [u64; 48],
}

/// Flash that C reaches.
struct Chip {
    sizes: [usize; 3],
    read: extern "C" fn(*mut c_void, usize, *mut c_void, usize) -> c_int,
    erase: extern "C" fn(*mut c_void, usize) -> c_int,
    program: extern "C" fn(*mut c_void, usize, *const c_void, usize) -> c_int,
    user: *mut c_void,
}

/// A callback that did not return 0.
struct Refused {
    what: &'static str,
    at: usize,
    code: c_int,
}

impl Refused {
    fn unless(code: c_int, what: &'static str, at: usize) -> Result<(), Refused> {
        if code == 0 { Ok(()) } else { Err(Refused { what, at, code }) }
    }
}

impl Chip {
    fn of(flash: &nunatak_flash) -> Result<Chip, Failure> {
        let nunatak_flash { size, page, unit, read, erase, program, user, .. } = *flash;
        let (Some(read), Some(erase), Some(program)) = (read, erase, program) else {
            return Err(fail!(NUNATAK_NULL_POINTER, "a callback of the flash is NULL"));
        };
        Ok(Chip { sizes: [size, page, unit], read, erase, program, user })
    }
}

impl Flash for Chip {
    type Error = Refused;
    fn size(&self) -> usize {
        self.sizes[0]
    }
    fn page(&self) -> usize {
        self.sizes[1]
    }
    fn unit(&self) -> usize {
        self.sizes[2]
    }
    fn read(&mut self, at: usize, out: &mut [u8]) -> Result<(), Refused> {
        Refused::unless((self.read)(self.user, at, out.as_mut_ptr().cast(), out.len()), "read", at)
    }
    fn erase(&mut self, at: usize) -> Result<(), Refused> {
        Refused::unless((self.erase)(self.user, at), "erase", at)
    }
    fn program(&mut self, at: usize, bytes: &[u8]) -> Result<(), Refused> {
        Refused::unless((self.program)(self.user, at, bytes.as_ptr().cast(), bytes.len()), "program", at)
    }
}

impl From<RingError<Refused>> for Failure {
    fn from(e: RingError<Refused>) -> Failure {
        match e {
            RingError::Flash(Refused { what, at, code }) => {
                fail!(NUNATAK_FLASH, "the flash's function `{what}` returned {code} for the byte {at}")
            }
            RingError::Geometry(what) => fail!(NUNATAK_BAD_CONFIG, "no features in this flash: {what}"),
            RingError::Other { numbers, .. } => fail!(
                NUNATAK_OTHER_FEATURES,
                "the flash has features of another network or preprocessing ({numbers} numbers each): clear it (nunatak_features_clear) \
                 and compute them anew, or take the network that they were made with"
            ),
            RingError::Length { expected, got } => {
                fail!(NUNATAK_WRONG_LENGTH, "a record has {expected} numbers, got {got}").numbers(expected, got)
            }
            RingError::NotFinite { at } => fail!(NUNATAK_NOT_FINITE, "feature {at} is NaN or infinite; look at the image and the weights"),
            RingError::NoRecord { count, index } => {
                fail!(NUNATAK_UNKNOWN_NAME, "there is no record {index}: there are {count}").numbers(count, index)
            }
            RingError::Damaged { index } => {
                fail!(NUNATAK_DAMAGED, "record {index} is damaged: the flash has lost bits; leave it out, or clear the flash")
            }
            RingError::ReadBack => {
                fail!(NUNATAK_FLASH, "the flash does not give back what was programmed; the records of before still count")
            }
            RingError::Trainer(e) => e.into(),
        }
    }
}

/// What lies in the state. The place tells a copy from what was opened.
#[repr(C)]
struct Opened {
    struct_bytes: usize,
    mark: AtomicUsize,
    place: usize,
    ring: Ring<Chip>,
}

const OPEN: usize = 0x6e72_696e;
const IN_USE: usize = 0x6e72_6275;
const _: () = assert!(size_of::<Opened>() <= size_of::<nunatak_features>() && align_of::<Opened>() <= align_of::<nunatak_features>());

/// Features that this call alone uses.
struct Using<'a> {
    mark: &'a AtomicUsize,
    ring: &'a mut Ring<Chip>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.mark.store(OPEN, Ordering::Release);
    }
}

/// Where features lie, and whether they are open there: then the mark.
///
/// # Safety
/// `features` is NULL or can be read and written for `'a`.
unsafe fn place<'a>(args: &Args, features: *mut nunatak_features) -> Result<(*mut Opened, Option<&'a AtomicUsize>), Failure> {
    // SAFETY: the caller's promise. No reference to it is made: a callback may be running that asks for the same.
    unsafe { Out::new(args, features, "features")? };
    let place = features.cast::<Opened>();
    // SAFETY: plain numbers at the front, in memory that can be read.
    let (bytes, own, mark) =
        unsafe { ((&raw const (*place).struct_bytes).read(), (&raw const (*place).place).read(), &raw const (*place).mark) };
    let there = bytes == size_of::<nunatak_features>() && own == place.addr();
    // SAFETY: as above; what has these numbers was written by this file.
    Ok((place, there.then(|| unsafe { &*mark })))
}

/// # Safety
/// As for `place`; what has the marks was written by this file.
unsafe fn using<'a>(args: &Args, features: *mut nunatak_features) -> Result<Using<'a>, Failure> {
    // SAFETY: the caller's promise.
    let (place, mark) = unsafe { place(args, features)? };
    let none = || fail!(NUNATAK_WRONG_ORDER, "the features are not open here; call nunatak_features_open first (a copy is not open)");
    let mark = mark.ok_or_else(none)?;
    match mark.compare_exchange(OPEN, IN_USE, Ordering::Acquire, Ordering::Relaxed) {
        // SAFETY: whoever wrote the mark wrote the ring, and this call alone uses it.
        Ok(_) => Ok(Using { mark, ring: unsafe { &mut (*place).ring } }),
        Err(IN_USE) => Err(fail!(NUNATAK_BUSY, "these features are in use, by another thread or by the call whose callback this is")),
        Err(_) => Err(none()),
    }
}

/// # Safety
/// As for `nunatak_features_open`.
unsafe fn open(
    args: &Args,
    (flash, key, count): (*const nunatak_flash, *const u8, usize),
    struct_bytes: usize,
    features: *mut nunatak_features,
    open: impl FnOnce(Chip, [u8; NUNATAK_KEY_BYTES], usize) -> Result<Ring<Chip>, RingError<Refused>>,
) -> Result<(), Failure> {
    let own = size_of::<nunatak_features>();
    if !features.is_null() && struct_bytes < own {
        let text = "expected sizeof(nunatak_features), which is";
        return Err(fail!(NUNATAK_BAD_CONFIG, "struct_bytes is {struct_bytes}, {text} {own} in this version").numbers(own, struct_bytes));
    }
    // SAFETY: the caller's promise.
    let (place, mark) = unsafe { place(args, features)? };
    if mark.is_some_and(|mark| mark.load(Ordering::Acquire) == IN_USE) {
        return Err(fail!(NUNATAK_BUSY, "these features are in use, by another thread or by the call whose callback this is"));
    }
    // SAFETY: the caller's promise.
    let (flash, key) = unsafe { (read(args, flash, "flash")?, slice(args, key, NUNATAK_KEY_BYTES, "key")?) };
    let mut own_key = [0; NUNATAK_KEY_BYTES];
    own_key.copy_from_slice(key);
    let ring = open(Chip::of(&flash)?, own_key, count)?;
    let opened = Opened { struct_bytes: own, mark: AtomicUsize::new(OPEN), place: place.addr(), ring };
    // SAFETY: it fits and is aligned, by the assertion above; what was there needs no end.
    unsafe { place.cast::<MaybeUninit<Opened>>().write(MaybeUninit::new(opened)) };
    Ok(())
}

/// The key of the features that a trainer's network makes of images: a digest of all parameters and statistics below the
/// head, of the images' size, and of `view`, which may be NULL where `view_bytes` is 0: bytes of the caller's that say how
/// images become numbers (resizing, means, deviations). With equal keys features are the same, but for rounding where
/// programs take other algorithms: compute all by one program. `key` gets NUNATAK_KEY_BYTES bytes. Of weights in place the
/// file's checksums are believed; others are read, which takes a board a second for each 10 MB or so.
///
/// `NUNATAK_NO_WEIGHTS` where there are none yet.
///
/// Any thread, one call at a time on a trainer.
///
/// # Safety
/// `view` is NULL, or `view_bytes` bytes can be read there; `key` is NULL, or NUNATAK_KEY_BYTES bytes can be written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_key(
    trainer: *const nunatak_trainer,
    view: *const c_void,
    view_bytes: usize,
    key: *mut u8,
) -> nunatak_status {
    call(|args| {
        let t = Entered::new(trainer)?;
        // SAFETY: the caller's promise.
        let out = unsafe { slice_mut(args, key, NUNATAK_KEY_BYTES, "key")? };
        let view = match view_bytes {
            0 => &[],
            // SAFETY: the caller's promise.
            _ => unsafe { slice(args, view.cast::<u8>(), view_bytes, "view")? },
        };
        if !t.ready {
            return Err(fail!(NUNATAK_NO_WEIGHTS, "there are no weights yet: load them, draw them or set them"));
        }
        out.copy_from_slice(&t.trainer.trunk_key(view));
        Ok(())
    })
}

/// How many bytes of flash always hold the newest `records` records of `count` numbers each (an image's features), where
/// pages of `page` bytes are erased at once and `unit` bytes are programmed: a multiple of the page.
///
/// `NUNATAK_BAD_CONFIG` for sizes that can't be, or do not fit the address space. Any thread.
///
/// # Safety
/// `bytes` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_flash_bytes(
    count: usize,
    records: usize,
    page: usize,
    unit: usize,
    bytes: *mut usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, bytes, "bytes")? };
        out.put(Ring::<Chip>::flash_bytes(count, records, page, unit)?);
        Ok(())
    })
}

/// Opens the features in a flash and finds the records that are there, also after a power cut at any moment: of records
/// that were being written nothing is seen. Nothing in the flash is changed. `key` is NUNATAK_KEY_BYTES bytes, those of
/// `nunatak_features_key` or of the caller's; `count` the numbers of an image; `struct_bytes` sizeof(nunatak_features).
/// `features` is all zeros before it is opened for the first time; what is open is opened anew. The flash's struct is copied.
///
/// `NUNATAK_OTHER_FEATURES` where the flash has features of another key or length: clear it, or take the network that they
/// were made with. `NUNATAK_BAD_CONFIG` for sizes that do not fit together, or fewer `struct_bytes` than this version's;
/// `NUNATAK_FLASH` where a callback did not return 0; `NUNATAK_BUSY`. Allocates nothing.
///
/// Any thread; features are used by one thread at a time.
///
/// # Safety
/// `flash` is NULL or can be read, and its callbacks do what they say; `key` is NULL, or NUNATAK_KEY_BYTES bytes can be read
/// there; `features` is NULL, or `struct_bytes` bytes can be read and written there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_open(
    flash: *const nunatak_flash,
    key: *const u8,
    count: usize,
    struct_bytes: usize,
    features: *mut nunatak_features,
) -> nunatak_status {
    // SAFETY: the caller's promise.
    call(|args| unsafe { open(args, (flash, key, count), struct_bytes, features, Ring::open) })
}

/// Erases the whole flash, whatever it has, and opens it: for the first time, or for features of another network. Else as
/// `nunatak_features_open`.
///
/// # Safety
/// As for `nunatak_features_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_clear(
    flash: *const nunatak_flash,
    key: *const u8,
    count: usize,
    struct_bytes: usize,
    features: *mut nunatak_features,
) -> nunatak_status {
    // SAFETY: the caller's promise.
    call(|args| unsafe { open(args, (flash, key, count), struct_bytes, features, Ring::erased) })
}

/// Appends an image's features (of `nunatak_trainer_features`) and its label. Where the flash is full the oldest records
/// make room, a sector at a time. After any error, and after a power cut at any moment, all other records are there.
///
/// `NUNATAK_WRONG_ORDER` where the features are not open; `NUNATAK_NOT_FINITE` for a feature that is NaN or infinite;
/// `NUNATAK_FLASH` where a callback did not return 0, or the flash does not give back what was programmed;
/// `NUNATAK_BUSY`. Allocates nothing.
///
/// Any thread; features are used by one thread at a time.
///
/// # Safety
/// `features` is NULL, or was written by `nunatak_features_open`; `numbers` is NULL, or `count` floats can be read there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_append(
    features: *mut nunatak_features,
    label: i64,
    numbers: *const f32,
    count: usize,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (using, numbers) = unsafe { (using(args, features)?, slice(args, numbers, count, "numbers")?) };
        Ok(using.ring.append(label, numbers)?)
    })
}

/// How many records there are. `NUNATAK_WRONG_ORDER` where the features are not open; `NUNATAK_BUSY`.
///
/// Any thread; features are used by one thread at a time.
///
/// # Safety
/// `features` is NULL, or was written by `nunatak_features_open`; `count` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_count(features: *mut nunatak_features, count: *mut usize) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (using, out) = unsafe { (using(args, features)?, Out::new(args, count, "count")?) };
        out.put(using.ring.len());
        Ok(())
    })
}

/// Reads the record `index`, of those that `nunatak_features_count` counts; 0 is the oldest: `numbers` gets its features, for
/// `nunatak_trainer_set_features`, and `label` its label. Reading them in their order is quickest.
///
/// `NUNATAK_UNKNOWN_NAME` where there is no such record; `NUNATAK_DAMAGED` where its checksum is wrong: then `numbers` has
/// zeros, and the others can be read; `NUNATAK_WRONG_ORDER`, `NUNATAK_FLASH`, `NUNATAK_BUSY` as for
/// `nunatak_features_append`. Allocates nothing.
///
/// Any thread; features are used by one thread at a time.
///
/// # Safety
/// `features` is NULL, or was written by `nunatak_features_open`; `numbers` is NULL, or `count` floats can be written there;
/// `label` is NULL or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nunatak_features_read(
    features: *mut nunatak_features,
    index: usize,
    numbers: *mut f32,
    count: usize,
    label: *mut i64,
) -> nunatak_status {
    call(|args| {
        // SAFETY: the caller's promise.
        let (using, numbers) = unsafe { (using(args, features)?, slice_mut(args, numbers, count, "numbers")?) };
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(args, label, "label")? };
        out.put(using.ring.read(index, numbers)?);
        Ok(())
    })
}
