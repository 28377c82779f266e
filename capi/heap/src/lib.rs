#![doc = include_str!("../README.md")]

mod global;
mod reserve;

pub use reserve::{begin, in_need, is_reserve, keeps, refused};
