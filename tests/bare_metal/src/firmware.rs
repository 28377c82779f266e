//! What every firmware here has: handlers, output and counting through the emulator, a stack that is painted, and
//! the memory that the linker script sets apart.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{ExceptionFrame, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::{hio, hprintln, nr};
use lessons::Place;

/// Full turns of the counter.
static TURNS: AtomicU32 = AtomicU32::new(0);
/// Ticks of a turn.
const TURN: u32 = 0x0100_0000;

#[exception]
fn SysTick() {
    TURNS.fetch_add(1, Ordering::Relaxed);
}

#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    hprintln!("hard fault: {:?}", frame);
    debug::exit(EXIT_FAILURE);
    loop {}
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    hprintln!("{}", info);
    debug::exit(EXIT_FAILURE);
    loop {}
}

/// The board: its output, and its stack.
pub struct Board {
    out: hio::HostStream,
    /// Where the stack was when it was painted last.
    begin: usize,
    /// The deepest that it has been before.
    deepest: usize,
    /// Instructions that measuring the stack has taken, which are not counted.
    uncounted: u64,
}

impl Place for Board {
    fn say(&mut self, line: fmt::Arguments) {
        // One call of the host for a line, however many pieces it is written in.
        let mut text = Line { bytes: [0; 160], len: 0 };
        if writeln!(text, "{line}").is_err() || self.out.write_all(&text.bytes[..text.len]).is_err() {
            debug::exit(EXIT_FAILURE);
        }
    }

    fn instructions(&mut self) -> u64 {
        instructions() - self.uncounted
    }

    fn begin_stack(&mut self) {
        let before = instructions();
        self.deepest = self.deepest.max(stack().0);
        self.begin = cortex_m::register::msp::read() as usize;
        paint();
        self.uncounted += instructions() - before;
    }

    fn deepest_stack(&mut self) -> usize {
        let before = instructions();
        let deepest = (stack().0 + self.begin).saturating_sub(&raw const _stack_start as usize);
        self.uncounted += instructions() - before;
        deepest
    }
}

/// Instructions since the start: under `-icount shift=0` one takes a nanosecond.
fn instructions() -> u64 {
    const HZ: u64 = match u64::from_str_radix(env!("BOARD_HZ"), 10) {
        Ok(hz) => hz,
        Err(_) => panic!("BOARD_HZ"),
    };
    let ticks = loop {
        let turns = TURNS.load(Ordering::Relaxed);
        let now = SYST::get_current();
        if turns == TURNS.load(Ordering::Relaxed) {
            break u64::from(turns) * u64::from(TURN) + u64::from(TURN - 1 - now);
        }
    };
    ticks * (1_000_000_000 / 1_000_000) / (HZ / 1_000_000)
}

struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

unsafe extern "C" {
    static mut _arena_start: u8;
    static _arena_end: u8;
    static _stack_end: u32;
    static _stack_start: u32;
}

/// Memory that the linker script sets apart.
pub fn arena() -> &'static mut [u8] {
    // SAFETY: the linker script gives this range to nobody else, and `main`, which runs once, calls this once.
    unsafe {
        let start = &raw mut _arena_start;
        core::slice::from_raw_parts_mut(start, &raw const _arena_end as usize - start as usize)
    }
}

/// Paints what of the stack is free now.
#[inline(never)]
fn paint() {
    // This function's own frame, and what an interrupt pushes meanwhile, lie in the bytes that are left out.
    let end = (cortex_m::register::msp::read() as usize - UNPAINTED) as *mut u32;
    let mut at = (&raw const _stack_end).cast_mut();
    // SAFETY: what lies below the stack pointer is nobody's.
    unsafe {
        // What was never used is painted still.
        while at < end && at.read_volatile() == cortex_m_rt::STACK_PAINT_VALUE {
            at = at.add(1);
        }
        while at < end {
            at.write_volatile(cortex_m_rt::STACK_PAINT_VALUE);
            at = at.add(1);
        }
    }
}

/// Bytes below the stack pointer that [`paint`] leaves alone.
const UNPAINTED: usize = 256;

/// The deepest that the stack has been, and its room, in bytes: what is no longer as it was
/// painted.
fn stack() -> (usize, usize) {
    let (mut at, start) = (&raw const _stack_end, &raw const _stack_start);
    let room = start as usize - at as usize;
    // SAFETY: all of it is this program's stack, painted at the start; reading it disturbs nobody.
    unsafe {
        while at < start && at.read_volatile() == cortex_m_rt::STACK_PAINT_VALUE {
            at = at.add(1);
        }
    }
    (start as usize - at as usize, room)
}

/// What stands on the emulator's command line.
fn command(buffer: &mut [u8; 256]) -> &str {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: SYS_GET_CMDLINE writes at most so many bytes there, and the length into the block.
    let failed = unsafe { cortex_m_semihosting::syscall(nr::GET_CMDLINE, &mut block) };
    let len = if failed == 0 { block[1].min(buffer.len()) } else { 0 };
    core::str::from_utf8(&buffer[..len]).unwrap_or("").trim_end_matches('\0')
}

/// Runs what the emulator's command line asks for, tells how much of the stack was used, and ends the emulator.
pub fn run(lesson: impl FnOnce(&mut Board, &str) -> bool) -> ! {
    let mut core = cortex_m::Peripherals::take().expect("the first call");
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(TURN - 1);
    core.SYST.clear_current();
    core.SYST.enable_interrupt();
    core.SYST.enable_counter();
    let Ok(out) = hio::hstdout() else {
        debug::exit(EXIT_FAILURE);
        loop {}
    };
    let mut board = Board { out, begin: 0, deepest: 0, uncounted: 0 };
    let mut line = [0; 256];
    let good = lesson(&mut board, command(&mut line).trim());
    let (used, room) = stack();
    board.say(format_args!("stack {} of {room} bytes", used.max(board.deepest)));
    debug::exit(if good { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {}
}

/// The first `N` numbers of the memory, and the rest.
pub fn front<const N: usize>(memory: &'static mut [u8]) -> (&'static mut [f32; N], &'static mut [u8]) {
    let (front, rest) = memory.split_at_mut(4 * N);
    // SAFETY: so many bytes, aligned as the linker script says; any bits are numbers.
    (unsafe { &mut *front.as_mut_ptr().cast() }, rest)
}
