#![doc = include_str!("../README.md")]

mod global;
mod reserve;

pub use reserve::{begin, has, is_reserve, refused};
