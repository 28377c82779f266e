//! A list that grows on the heap (feature `std`), or in a slice that the caller lends.
//!
//! Recording and planning keep everything in such lists, so that no constant decides what fits: with
//! `std` as much as the machine's memory, without it as much as the caller gave.

use crate::Error;
#[cfg(feature = "std")]
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

/// A growing list of plain values.
#[derive(Debug)]
pub struct List<'s, T>(Inner<'s, T>);

#[derive(Debug)]
enum Inner<'s, T> {
    Lent {
        slots: &'s mut [T],
        len: usize,
    },
    #[cfg(feature = "std")]
    Owned(Vec<T>),
}

impl<'s, T> List<'s, T> {
    /// An empty list in the caller's slice, which bounds its length.
    pub fn lent(slots: &'s mut [T]) -> List<'s, T> {
        List(Inner::Lent { slots, len: 0 })
    }
}

#[cfg(feature = "std")]
impl<T> List<'static, T> {
    /// An empty list on the heap.
    pub const fn new() -> List<'static, T> {
        List(Inner::Owned(Vec::new()))
    }
}

#[cfg(feature = "std")]
impl<T> Default for List<'static, T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> List<'_, T> {
    /// Adds a value at the end; returns its number.
    ///
    /// # Errors
    /// [`Error::ListFull`] where the caller's slice is full, or the number does not fit `u32`.
    pub fn push(&mut self, value: T) -> Result<u32, Error> {
        let at = self.len();
        let number = u32::try_from(at).map_err(|_| Error::ListFull { capacity: u32::MAX as usize })?;
        match &mut self.0 {
            Inner::Lent { slots, len } => {
                let capacity = slots.len();
                *slots.get_mut(at).ok_or(Error::ListFull { capacity })? = value;
                *len += 1;
            }
            #[cfg(feature = "std")]
            Inner::Owned(items) => items.push(value),
        }
        Ok(number)
    }

    /// Adds values at the end.
    ///
    /// # Errors
    /// As for [`List::push`]; then some may have been added.
    pub fn extend(&mut self, values: impl IntoIterator<Item = T>) -> Result<(), Error> {
        values.into_iter().try_for_each(|value| self.push(value).map(|_| ()))
    }

    /// Makes the list `len` values long: cut, or filled with `value`.
    ///
    /// # Errors
    /// As for [`List::push`].
    pub fn resize(&mut self, new_len: usize, value: T) -> Result<(), Error> {
        match &mut self.0 {
            Inner::Lent { slots, len } => {
                let capacity = slots.len();
                if new_len > capacity {
                    return Err(Error::ListFull { capacity });
                }
                if new_len > *len {
                    slots[*len..new_len].fill(value);
                }
                *len = new_len;
            }
            #[cfg(feature = "std")]
            Inner::Owned(items) => items.resize(new_len, value),
        }
        Ok(())
    }

    /// Empties the list and fills it with `len` times `value`.
    ///
    /// # Errors
    /// As for [`List::push`].
    pub fn refill(&mut self, len: usize, value: T) -> Result<(), Error> {
        self.clear();
        self.resize(len, value)
    }

    /// Makes the list hold what another holds.
    ///
    /// # Errors
    /// As for [`List::push`].
    pub fn copy_from(&mut self, other: &[T]) -> Result<(), Error> {
        self.clear();
        self.extend(other.iter().copied())
    }

    /// The values, on the heap.
    #[cfg(feature = "std")]
    pub fn into_vec(self) -> Vec<T> {
        match self.0 {
            Inner::Lent { slots, len } => slots[..len].to_vec(),
            Inner::Owned(items) => items,
        }
    }

    /// Empties the list.
    pub fn clear(&mut self) {
        match &mut self.0 {
            Inner::Lent { len, .. } => *len = 0,
            #[cfg(feature = "std")]
            Inner::Owned(items) => items.clear(),
        }
    }
}

impl<T> Deref for List<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Inner::Lent { slots, len } => &slots[..*len],
            #[cfg(feature = "std")]
            Inner::Owned(items) => items,
        }
    }
}

impl<T> DerefMut for List<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match &mut self.0 {
            Inner::Lent { slots, len } => &mut slots[..*len],
            #[cfg(feature = "std")]
            Inner::Owned(items) => items,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(list: &mut List<u32>) {
        for i in 0..4 {
            assert_eq!(list.push(10 + i), Ok(i));
        }
        assert_eq!(**list, [10, 11, 12, 13]);
        list.resize(2, 0).expect("shorter");
        list.resize(4, 7).expect("longer");
        list[0] = 1;
        assert_eq!(**list, [1, 11, 7, 7]);
        list.copy_from(&[5, 6]).expect("room");
        assert_eq!(**list, [5, 6]);
        list.refill(3, 9).expect("room");
        assert_eq!(**list, [9, 9, 9]);
    }

    #[test]
    fn a_lent_list_ends_where_its_slice_ends() {
        let mut slots = [0; 4];
        let mut list = List::lent(&mut slots);
        fill(&mut list);
        assert_eq!(list.extend([1, 2]), Err(Error::ListFull { capacity: 4 }));
        assert_eq!(list.resize(5, 0), Err(Error::ListFull { capacity: 4 }));
    }

    #[test]
    #[cfg(feature = "std")]
    fn an_owned_list_grows() {
        let mut list = List::new();
        fill(&mut list);
        list.extend(0..100_000).expect("memory");
        assert_eq!(list.len(), 100_003);
    }
}
