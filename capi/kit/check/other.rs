//! Another static library in Rust.

#[unsafe(no_mangle)]
pub extern "C" fn other_sum(count: u32) -> u32 {
    let numbers: Vec<u32> = (0..count).collect();
    println!("{} numbers", numbers.len());
    numbers.iter().sum()
}

#[unsafe(no_mangle)]
pub extern "C" fn other_caught() -> i32 {
    std::panic::set_hook(Box::new(|_| ()));
    i32::from(std::panic::catch_unwind(|| panic!("on purpose")).is_err())
}
