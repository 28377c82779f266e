//! The lessons on a Cortex-M. Which one is said by the emulator's command line (`-append`): `learn whole`,
//! `learn three`, `tutorial`, `sizes`. All memory is static; at the end it tells how much of the stack was used.
#![no_std]
#![no_main]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::{ExceptionFrame, entry, exception};
use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::{hio, hprintln, nr};
use lessons::images::NUMBERS;
use lessons::learn::{self, BATCH, How, Steps};
use lessons::tutorial::{self, ROOM};
use lessons::{Place, sizes};
use nunatak_nn::Level;

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

struct Board {
    out: hio::HostStream,
}

impl Place for Board {
    fn say(&mut self, line: fmt::Arguments) {
        // One call of the host for a line, however many pieces it is written in.
        let mut text = Line { bytes: [0; 160], len: 0 };
        if writeln!(text, "{line}").is_err() || self.out.write_all(&text.bytes[..text.len]).is_err() {
            debug::exit(EXIT_FAILURE);
        }
    }

    /// Under `-icount shift=0` an instruction takes a nanosecond.
    fn instructions(&mut self) -> u64 {
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
fn arena() -> &'static mut [u8] {
    // SAFETY: the linker script gives this range to nobody else, and `main`, which runs once, calls this once.
    unsafe {
        let start = &raw mut _arena_start;
        core::slice::from_raw_parts_mut(start, &raw const _arena_end as usize - start as usize)
    }
}

/// The deepest that the stack has been, and its room, in bytes: what is no longer as cortex-m-rt has painted it.
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

#[entry]
fn main() -> ! {
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
    let mut board = Board { out };
    let mut line = [0; 256];
    let line = command(&mut line);
    let good = lesson(&mut board, line);
    let (used, room) = stack();
    board.say(format_args!("stack {used} of {room} bytes"));
    debug::exit(if good { EXIT_SUCCESS } else { EXIT_FAILURE });
    loop {}
}

fn lesson(board: &mut Board, line: &str) -> bool {
    let (words, memory) = (line.trim(), arena());
    let how = How { level: Level::detect(), algorithm: None };
    let result = if words.ends_with("learn whole") || words.ends_with("learn three") {
        let (images, memory) = front::<{ BATCH * NUMBERS }>(memory);
        let steps = if words.ends_with("whole") { Steps::WHOLE } else { Steps::THREE };
        learn::run(board, how, steps, memory, images, |_| Ok(())).map_err(|e| board.say(format_args!("{e:?}")))
    } else if words.ends_with("tutorial") {
        let (room, memory) = front::<ROOM>(memory);
        tutorial::run(board, how.level, memory, room).map_err(|e| board.say(format_args!("{e:?}")))
    } else if words.ends_with("sizes") {
        sizes::run(board).map_err(|e| board.say(format_args!("{e}")))
    } else {
        board.say(format_args!("no lesson: {words}"));
        return false;
    };
    result.is_ok()
}

/// The first `N` numbers of the memory, and the rest.
fn front<const N: usize>(memory: &'static mut [u8]) -> (&'static mut [f32; N], &'static mut [u8]) {
    let (front, rest) = memory.split_at_mut(4 * N);
    // SAFETY: so many bytes, aligned as the linker script says; any bits are numbers.
    (unsafe { &mut *front.as_mut_ptr().cast() }, rest)
}
