#![doc = include_str!("../README.md")]

mod global;
mod reserve;

pub use reserve::{begin, is_reserve, keeps, refused};
