//! A helper's thread, from its start to its end.
//!
//! Rust's library takes some dozens of bytes for a thread from the system itself and ends the process where they are
//! refused. So on Unix a thread is asked for by POSIX's own call: what the system refuses is an error.

use std::io;

// Miri has POSIX's call for Rust's own library alone.
#[cfg(any(not(unix), miri))]
pub(super) use anywhere::Thread;
#[cfg(all(unix, not(miri)))]
pub(super) use posix::Thread;

/// What a thread does.
pub(super) trait Life: Sync {
    /// All of it. It must not panic.
    fn live(&self);
    /// The thread's number, for its name.
    fn number(&self) -> usize;
}

#[cfg(all(unix, not(miri)))]
mod posix {
    use super::{Life, io};
    use core::ffi::c_void;
    use core::mem::MaybeUninit;

    /// Bytes of its stack: what Rust's own threads have.
    const STACK: usize = 2 << 20;

    /// A thread that must be joined.
    pub(in super::super) struct Thread(libc::pthread_t);

    // SAFETY: the system's name of a thread, which any thread may use to wait for it.
    unsafe impl Send for Thread {}
    // SAFETY: the same; nothing is done with a shared one.
    unsafe impl Sync for Thread {}

    impl Thread {
        /// Starts a thread, which allocates nothing on this side.
        ///
        /// # Errors
        /// What the system says.
        ///
        /// # Safety
        /// `life` must stay where it is, and nobody may take it exclusively, until the thread was joined.
        pub(in super::super) unsafe fn start<L: Life>(life: *const L) -> io::Result<Thread> {
            extern "C" fn begin<L: Life>(life: *mut c_void) -> *mut c_void {
                // SAFETY: the promise of whoever called `start`, with this type.
                let life = unsafe { &*life.cast::<L>() };
                name(life.number());
                life.live();
                core::ptr::null_mut()
            }
            let ok = |code| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
            let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
            let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
            // SAFETY: each call is given what the one before it has made, and they are undone once.
            unsafe {
                ok(libc::pthread_attr_init(attributes.as_mut_ptr()))?;
                let sized = ok(libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK));
                let started = sized.and_then(|()| {
                    let argument = life.cast_mut().cast();
                    ok(libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), begin::<L>, argument))
                });
                libc::pthread_attr_destroy(attributes.as_mut_ptr());
                started.map(|()| Thread(thread.assume_init()))
            }
        }

        /// Waits for its end.
        pub(in super::super) fn join(self) {
            // SAFETY: it was started and is joined once. That it can't be is no error which anything follows from.
            unsafe { libc::pthread_join(self.0, core::ptr::null_mut()) };
        }
    }

    /// Gives this thread the name that debuggers and `top` show, where the system has such names.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn name(number: usize) {
        use std::io::Write;
        // The system takes 15 bytes and a zero; longer ones are cut.
        let mut name = [0_u8; 16];
        let _ = write!(&mut name[..15], "nunatak-{number}");
        // SAFETY: this thread is there, and the name ends with a zero.
        unsafe { libc::pthread_setname_np(libc::pthread_self(), name.as_ptr().cast()) };
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn name(_: usize) {}
}

#[cfg(any(not(unix), miri))]
mod anywhere {
    use super::{Life, io};

    /// A thread that must be joined.
    pub(in super::super) struct Thread(std::thread::JoinHandle<()>);

    /// A life that another thread may see.
    struct Lent<L>(*const L);

    // SAFETY: a shared reference, whose target is `Sync`.
    unsafe impl<L: Life> Send for Lent<L> {}

    impl<L: Life> Lent<L> {
        fn live(self) {
            // SAFETY: the promise of whoever called `start`.
            unsafe { &*self.0 }.live();
        }
    }

    impl Thread {
        /// Starts a thread.
        ///
        /// # Errors
        /// What the system says.
        ///
        /// # Safety
        /// `life` must stay where it is, and nobody may take it exclusively, until the thread was joined.
        pub(in super::super) unsafe fn start<L: Life + 'static>(life: *const L) -> io::Result<Thread> {
            // SAFETY: as above.
            let number = unsafe { &*life }.number();
            let lent = Lent(life);
            std::thread::Builder::new().name(std::format!("nunatak-{number}")).spawn(move || lent.live()).map(Thread)
        }

        /// Waits for its end.
        pub(in super::super) fn join(self) {
            let _ = self.0.join();
        }
    }
}
