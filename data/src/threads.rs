//! Whether the system has room for one more thread.

/// What a thread takes at its start, and some more: a stack of 2 MiB, and a place for handling its overflow.
const ROOM: usize = 3 << 20;

/// Whether there is room for one more thread. Where its stack can be had and not what it takes next, Rust's library ends
/// the process: so it is asked before. Other threads may take the room between the question and the start.
pub fn is_room() -> bool {
    let mut room: Vec<u8> = Vec::new();
    let found = room.try_reserve_exact(ROOM).is_ok();
    // A compiler may leave out memory that nobody looks at.
    std::hint::black_box(room.as_ptr());
    found
}
